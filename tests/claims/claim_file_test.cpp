#include "agent/ctl/claim_file.hpp"

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/support/temp.hpp"

/// Claim files: what is taken, what is refused and where, names.
namespace ordinald::testing {
namespace {

using namespace ctl;

/// The refusal of a set whose top object has these keys besides.
std::string refusal(const std::string& keys) {
  const auto set = parse_claim_set("{" + keys + "}", "db.json");
  return set ? "taken" : set.error().message;
}

const std::string least = R"("set": "db", "volumeClaimTemplates": [{"name": "data", "size": "1GiB"}])";

ClaimSet parsed(const std::string& text) {
  auto set = parse_claim_set(text, "db.json");
  INFO((set ? "" : set.error().message));
  REQUIRE(set.has_value());
  return set.value();
}

}  // namespace

TEST_CASE("a claim file with every key, and one with the least") {
  const ClaimSet set = parsed(R"({ // as in the manual
    "set": "db", "serviceName": "pg", "replicas": 3, "startOrdinal": 2, "minReadySeconds": 5, "podManagementPolicy": "Parallel",
    "updateStrategy": "OnDelete", "unit": "postgres@.service", "addressBase": "127.0.10.254",
    "volumeClaimTemplates": [{"name": "data", "size": "1GiB", "fsType": "xfs", "mountOptions": ["noatime"], "pool": "fast",
      "accessMode": "ReadWriteOnce", "parameters": {"blockSize": "512"}}, {"name": "wal-log", "size": "512Mi"}],
    "retentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"}, "mountPath": "/srv/{set}-{ordinal}/{template}",
    "owner": "postgres", "group": "26", "mode": "0700"})");
  CHECK(set.min_ready == std::chrono::seconds{5});
  CHECK(set.management == Management::parallel);
  CHECK(set.update == Update::on_delete);
  CHECK(set.when_deleted == Retention::remove);
  CHECK(set.when_scaled == Retention::retain);
  CHECK(ordinals(set) == std::vector<std::int64_t>{2, 3, 4});
  CHECK(has_ordinal(set, 4));
  CHECK_FALSE(has_ordinal(set, 1));
  CHECK_FALSE(has_ordinal(set, 5));
  CHECK(set.templates.at(0).size == std::uint64_t{1} << 30U);
  CHECK(set.templates.at(0).mode == ClaimMode::read_write_once);
  CHECK(set.templates.at(1).size == std::uint64_t{512} << 20U);
  CHECK(claim_name(set.templates.at(1), set, 2) == "wal-log-db-2");
  CHECK(mount_path(set, set.templates.at(1), 2) == "/srv/db-2/wal-log");
  CHECK(unit_of(set, 2) == "postgres@2.service");
  CHECK(address_of(set, 2) == "127.0.11.0");
  CHECK(stable_name(set, 2) == "db-2.pg");

  const ClaimSet plain = parsed("{" + least + "}");
  CHECK(plain.replicas == 1);
  CHECK(plain.service_name == "db");
  CHECK(plain.when_deleted == Retention::retain);
  CHECK(plain.templates.at(0).mode == ClaimMode::read_write_once_pod);
  CHECK(unit_of(plain, 0).empty());
  CHECK(address_of(plain, 0).empty());
}

TEST_CASE("what is wrong in a claim file is refused with its place") {
  const auto one_template = [](const std::string& keys) {
    return refusal(R"("set": "db", "volumeClaimTemplates": [{"name": "data", "size": "1GiB", )" + keys + "}]");
  };
  CHECK(refusal(R"("set": "db")") == "db.json: volumeClaimTemplates: expected it to be given, found nothing");
  CHECK_THAT(refusal(least + R"(, "replica": 3)"), Catch::StartsWith("db.json: replica: unknown key; expected one of set, "));
  CHECK_THAT(refusal(least + R"(, "set": "db")"), Catch::Contains("set: the key is given twice"));
  CHECK_THAT(refusal(least + R"(, "replicas": -1)"), Catch::Contains("replicas: expected an integer from 0 to 1000, found -1"));
  CHECK_THAT(refusal(least + R"(, "replicas": "3")"), Catch::Contains("replicas: expected an integer"));
  CHECK_THAT(refusal(R"("set": "Db", "volumeClaimTemplates": [])"), Catch::Contains("set: expected at most 55 lower-case"));
  CHECK_THAT(refusal(R"("set": "db", "volumeClaimTemplates": [])"), Catch::Contains("expected an array of at least one template"));
  CHECK_THAT(refusal(least + R"(, "unit": "postgres.service")"), Catch::Contains("unit: expected a template unit"));
  CHECK_THAT(refusal(least + R"(, "addressBase": "::1")"), Catch::Contains("addressBase: expected an IPv4 address"));
  CHECK_THAT(refusal(least + R"(, "addressBase": "255.255.255.255", "replicas": 2)"),
             Catch::Contains("addressBase: there are no addresses"));
  CHECK_THAT(refusal(least + R"(, "mode": "888")"), Catch::Contains("mode: expected an octal mode"));
  CHECK_THAT(refusal(least + R"(, "retentionPolicy": {"whenScaled": "Keep"})"),
             Catch::Contains("retentionPolicy.whenScaled: expected \"Retain\" or \"Delete\", found \"Keep\""));
  for (const std::string path : {"srv/{ordinal}", "/srv/../{ordinal}", "/srv/{ordinal}/", "/srv/{name}-{ordinal}", "/srv/a b/{ordinal}"}) {
    CHECK_THAT(refusal(least + R"(, "mountPath": ")" + path + "\""), Catch::Contains("mountPath: expected an absolute path"));
  }
  CHECK_THAT(refusal(least + R"(, "mountPath": "/srv/{set}")"), Catch::Contains("where two volumes would meet"));
  for (const std::string size : {"0GiB", "1", "1.5GiB", "1GB", "1KiB", "-1GiB", "99999999TiB"}) {
    CHECK_THAT(refusal(R"("set": "db", "volumeClaimTemplates": [{"name": "data", "size": ")" + size + "\"}]"),
               Catch::Contains("volumeClaimTemplates[0].size: expected a size of "));
  }
  CHECK_THAT(one_template(R"("fsType": "zfs")"),
             Catch::Contains("volumeClaimTemplates[0].fsType: expected \"ext4\", \"xfs\" or \"btrfs\""));
  CHECK_THAT(one_template(R"("accessMode": "ReadWriteMany")"), Catch::Contains("expected \"ReadWriteOncePod\" or \"ReadWriteOnce\""));
  CHECK_THAT(one_template(R"("parameters": {"blockSize": "17"})"),
             Catch::Contains("volumeClaimTemplates[0].parameters: parameter blockSize"));
  CHECK_THAT(one_template(R"("parameters": {"identity": "none"})"), Catch::Contains("parameters.identity: it is not given here"));
  const std::string option = one_template(R"("mountOptions": ["noatime", 17])");
  CHECK_THAT(option, Catch::Contains("volumeClaimTemplates[0].mountOptions[1]: expected mount options"));
  CHECK_THAT(option, !Catch::Contains("17"));
}

TEST_CASE("the name of an ordinal is cut at its last dash") {
  CHECK(split_ordinal_name("db-0").value() == Member{.set = "db", .ordinal = 0});
  CHECK(split_ordinal_name("db-0-1").value() == Member{.set = "db-0", .ordinal = 1});
  for (const std::string_view name :
       {"db", "db-", "-0", "db-00", "db-01", "db-x", "Db-0", "db-1x", "db--1", "db-99999999999999999999", ""}) {
    CHECK_FALSE(split_ordinal_name(name).has_value());
  }
}

TEST_CASE("sets are files of their names, and none has another's claims") {
  const TempDir temp{"claim-files"};
  const std::string directory = temp.path();
  const auto put = [&](const std::string& file, const std::string& set, const std::string& of) {
    write_file(temp.path() / (file + ".json"),
               R"({"set": ")" + set + R"(", "volumeClaimTemplates": [{"name": ")" + of + R"(", "size": "64MiB"}]})");
  };
  CHECK(load_claim_sets(directory + "/none").value().empty());
  put("db", "db", "data");
  put("db-0", "db-0", "data");
  write_file(temp.path() / "notes.txt", "no set");
  REQUIRE(load_claim_sets(directory).value().size() == 2);
  CHECK(find_claim_set(directory, "db-0").value().name == "db-0");

  const auto missing = find_claim_set(directory, "web");
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == mount::ErrorCode::not_found);
  CHECK_THAT(missing.error().message, Catch::EndsWith("there are db, db-0"));
  CHECK_FALSE(find_claim_set(directory, "../db").has_value());

  put("0", "0", "data-db");  // its data-db-0-0 would be db-0's
  const auto both = load_claim_sets(directory);
  REQUIRE_FALSE(both.has_value());
  CHECK_THAT(both.error().message, Catch::Contains("the sets 0 and db-0 would both have claims of the name data-db-0-<ordinal>"));

  std::filesystem::remove(temp.path() / "0.json");

  // One address, one mount path for two.
  const auto put_at = [&](const std::string& set, const std::string& key, const std::string& value) {
    write_file(temp.path() / (set + ".json"), R"({"set": ")" + set + R"(", "replicas": 2, ")" + key + R"(": ")" + value +
                                                  R"(", "volumeClaimTemplates": [{"name": "data", "size": "64MiB"}]})");
  };
  put_at("a", "addressBase", "127.0.10.1");
  put_at("b", "addressBase", "127.0.10.2");
  CHECK_THAT(load_claim_sets(directory).error().message, Catch::Contains("a-1 of set a and b-0 of set b would both have 127.0.10.2"));
  put_at("b", "addressBase", "127.0.10.3");
  CHECK(load_claim_sets(directory).has_value());
  put_at("a", "mountPath", "/srv/both-{ordinal}");
  put_at("b", "mountPath", "/srv/both-{ordinal}");
  CHECK_THAT(load_claim_sets(directory).error().message,
             Catch::Contains("data-a-0 of set a and data-b-0 of set b would both have /srv/both-0"));

  // One unit for two: each ordinal of it is one set's.
  std::filesystem::remove(temp.path() / "b.json");
  put_at("a", "unit", "postgres@.service");
  put_at("c", "unit", "postgres@.service");
  const char* const one_unit = "a-0 of set a and c-0 of set c would both have postgres@0.service; give one a template unit of its own";
  CHECK_THAT(load_claim_sets(directory).error().message, Catch::Contains(one_unit));
  CHECK_THAT(refuse_shared_claims(directory, find_claim_set(directory, "c").value()).error().message, Catch::Contains(one_unit));
  put_at("c", "unit", "redis@.service");
  CHECK(load_claim_sets(directory).has_value());
  put_at("c", "startOrdinal\": 2, \"unit", "postgres@.service");  // side by side they don't meet
  CHECK(load_claim_sets(directory).has_value());

  put("web", "www", "data");
  CHECK_THAT(find_claim_set(directory, "web").error().message, Catch::Contains("expected \"web\", as the file is named, found \"www\""));
}

TEST_CASE("replicas are changed in the text, and nothing else") {
  const std::string text = R"({
  // "replicas": 7 is what we had
  "set": "db", /* "replicas": */ "replicas" : 3, "volumeClaimTemplates": [{"name": "replicas", "size": "1GiB"}]
})";
  std::string wanted = text;
  wanted.replace(wanted.find("3, \"volume"), 1, "12");
  CHECK(with_replicas(text, 12).value() == wanted);
  const std::string without = "// ours\n{" + least + "}\n";
  CHECK(with_replicas(without, 2).value() == "// ours\n{\n  \"replicas\": 2," + least + "}\n");
  CHECK_FALSE(with_replicas(text, 1001).has_value());
}

}  // namespace ordinald::testing
