// What a StatefulSet lives through.
#include <set>

#include "tests/stateful/orchestrator.hpp"

namespace ordinald::testing {

TEST_CASE("a set starts in order, and each ordinal has its own volume", "[stateful][root]") {
  Rig rig;
  Orchestrator orchestrator{rig};
  StatefulSet db{orchestrator, "db", {"data", "wal"}};
  db.scale(3);
  CHECK(db.story == "+db-0 +db-1 +db-2");
  std::set<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    CHECK(db.lives(i) == 1);
    for (const std::string of : {"data", "wal"}) {
      ids.insert(db.volume(i, of).id);
      CHECK(orchestrator.targets_of(db.volume(i, of)).size() == 1);
    }
  }
  CHECK(ids.size() == 6);
  db.scale(0);
  CHECK(db.story == "+db-0 +db-1 +db-2 -db-2 -db-1 -db-0");
  CHECK(leaks_beneath(rig.root()) == "");
}

TEST_CASE("an ordinal that is rescheduled a hundred times has its data each time", "[stateful][root]") {
  Rig rig;
  Orchestrator orchestrator{rig};
  StatefulSet db{orchestrator, "db"};
  db.scale(3);
  const std::string id = db.volume(1, "data").id;
  for (int i = 1; i <= 100; ++i) {
    db.reschedule(1);
    REQUIRE(db.lives(1) == 1 + i);
    if (i % 25 == 0) rig.crash();
  }
  CHECK(db.volume(1, "data").id == id);
  CHECK(db.lives(0) == 1);
  CHECK(db.lives(2) == 1);
  const std::string last = db.pod(1).uid;
  db.scale(0);
  const auto record = nlohmann::json::parse(read_file(rig.record_of(id)));
  REQUIRE(record.at("history").size() == 16);
  CHECK(record.at("history").back().at("podUid") == last);
  CHECK(record.at("history").back().at("ended") == "unpublished");
}

TEST_CASE("a set is rolled in reverse order, scaled down and up, and made anew, and the old data is back", "[stateful][root]") {
  Rig rig;
  Orchestrator orchestrator{rig};
  StatefulSet db{orchestrator, "db", {"data"}, 5};  // ordinals from 5 on
  db.scale(3);
  db.story.clear();
  db.roll();
  CHECK(db.story == "-db-7 +db-7 -db-6 +db-6 -db-5 +db-5");
  for (int i = 0; i < 3; ++i) CHECK(db.lives(i) == 2);
  db.scale(1);
  CHECK(db.lives(0) == 2);
  rig.crash();
  db.scale(3);
  CHECK(db.lives(0) == 2);
  CHECK(db.lives(1) == 3);
  CHECK(db.lives(2) == 3);
  // Deleted and made anew; the claims are kept.
  db.scale(0);
  CHECK(leaks_beneath(rig.root()) == "");
  db.scale(3);
  CHECK(db.lives(0) == 3);
  CHECK(db.lives(2) == 4);
  // With the claims deleted too, it begins from nothing.
  db.scale(0);
  db.delete_claims();
  db.scale(3);
  for (int i = 0; i < 3; ++i) CHECK(db.lives(i) == 1);
  db.scale(0);
}

TEST_CASE("sets whose names share a prefix live side by side, and none gets another's volume", "[stateful][root]") {
  Rig rig;
  Orchestrator orchestrator{rig};
  std::vector<StatefulSet> sets;
  sets.emplace_back(orchestrator, "db", std::vector<std::string>{"data", "data-db"});  // data-db-N, data-db-db-N
  sets.emplace_back(orchestrator, "db-0");                                             // data-db-0-N
  sets.emplace_back(orchestrator, "db-1", std::vector<std::string>{"data", "d"});      // data-db-1-N, d-db-1-N
  sets.emplace_back(orchestrator, "d", std::vector<std::string>{"data"});              // data-d-N
  std::vector<ClaimedVolume> volumes;
  std::vector<PodId> pods;
  for (StatefulSet& set : sets) {
    set.scale(2);
    for (int i = 0; i < 2; ++i) {
      CHECK(set.lives(i) == 1);
      pods.push_back(set.pod(i));
    }
  }
  for (int i = 0; i < 2; ++i) {
    for (const std::string of : {"data", "data-db"}) volumes.push_back(sets[0].volume(i, of));
    volumes.push_back(sets[1].volume(i, "data"));
    for (const std::string of : {"data", "d"}) volumes.push_back(sets[2].volume(i, of));
    volumes.push_back(sets[3].volume(i, "data"));
  }
  int asked = 0;
  for (const ClaimedVolume& volume : volumes) {
    for (const PodId& pod : pods) {
      if (volume.name.ends_with("-" + pod.name) && !orchestrator.targets_of(volume).empty() &&
          orchestrator.targets_of(volume).front() == orchestrator.target(volume, pod)) {
        continue;  // it has it
      }
      INFO(volume.name << " for " << pod.name);
      const Outcome refused = orchestrator.publish(volume, new_pod(pod.name));
      CHECK(refused == FAILED_PRECONDITION);
      CHECK_THAT(refused.message, Catch::Contains("prod/" + pod.name));
      ++asked;
    }
  }
  CHECK(asked == 12 * 8 - 12);
  for (StatefulSet& set : sets) {
    set.roll();
    for (int i = 0; i < 2; ++i) CHECK(set.lives(i) == 2);
    set.scale(0);
  }
}

TEST_CASE("the wrong pod is refused with both names, and told what is missing", "[stateful][root]") {
  Rig rig;
  Orchestrator orchestrator{rig};
  const ClaimedVolume own = orchestrator.provision("data-db-0");
  const ClaimedVolume shared = orchestrator.provision("uploads", "claim");
  const ClaimedVolume free = orchestrator.provision("scratch", "none");
  for (const ClaimedVolume* volume : {&own, &shared, &free}) REQUIRE(orchestrator.stage(*volume) == OK);
  struct Case {
    const ClaimedVolume& volume;
    PodId pod;
    std::string says;  ///< empty: it may
  };
  for (const Case& c : std::vector<Case>{{own, new_pod("db-1"), "pod prod/db-1 is not that ordinal"},
                                         {own, new_pod("db-0", "test"), "pod test/db-0 is of another namespace"},
                                         {own, new_pod("web-0"), "pod prod/web-0 is not that ordinal"},
                                         {own, new_pod("backup-x7k2p"), "pod prod/backup-x7k2p is not that ordinal"},
                                         {own, {.name_space = "", .name = "", .uid = "u"}, "podInfoOnMount: true"},
                                         {shared, new_pod("job-x", "test"), "pod test/job-x is of another namespace"},
                                         {shared, {.name_space = "", .name = "", .uid = "u"}, "podInfoOnMount: true"},
                                         {shared, new_pod("job-x"), ""},
                                         {free, new_pod("anything", "anywhere"), ""},
                                         {own, new_pod("db-0"), ""}}) {
    INFO(c.volume.name << " for " << c.pod.name_space << "/" << c.pod.name);
    const Outcome answer = orchestrator.publish(c.volume, c.pod);
    CHECK(answer == (c.says.empty() ? OK : FAILED_PRECONDITION));
    if (!c.says.empty()) CHECK_THAT(answer.message, Catch::Contains(c.says) && Catch::Contains(c.volume.name));
    CHECK(fs::exists(orchestrator.target(c.volume, c.pod)) == c.says.empty());
  }
}

TEST_CASE("a pre-made volume takes identity and claim from its volume_context", "[stateful][root]") {
  Rig rig;
  const std::string id = rig.create("made-by-hand", rwop, 16 * mebi);
  REQUIRE(rig.stage(id, rwop, rig.staging("static")) == OK);
  const auto ask = [&](const StringMap& context, const std::string& pod) {
    auto request = rig.publish_request(id, rwop, rig.staging("static"), rig.target(pod));
    request.mutable_volume_context()->insert(context.begin(), context.end());
    (*request.mutable_volume_context())["csi.storage.k8s.io/pod.name"] = pod;
    (*request.mutable_volume_context())["csi.storage.k8s.io/pod.namespace"] = "prod";
    (*request.mutable_volume_context())["csi.storage.k8s.io/pod.uid"] = "uid-" + pod;
    return outcome(rig.call(request));
  };
  const StringMap ordinal{
      {"identity", "ordinal"}, {"csi.storage.k8s.io/pvc/name", "data-db-0"}, {"csi.storage.k8s.io/pvc/namespace", "prod"}};
  CHECK(ask(ordinal, "db-1") == FAILED_PRECONDITION);
  const Outcome unknown = ask({{"identity", "ordinal"}}, "db-0");
  CHECK(unknown == FAILED_PRECONDITION);
  CHECK_THAT(unknown.message, Catch::Contains("volumeAttributes"));
  CHECK(ask({{"identity", "sticky"}}, "db-0") == FAILED_PRECONDITION);
  CHECK(ask(ordinal, "db-0") == OK);
}

}  // namespace ordinald::testing
