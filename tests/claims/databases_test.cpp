#include <pwd.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>

#include "tests/claims/bed.hpp"

/// A real PostgreSQL and a real Redis on what ordinalctl claims: written, killed, moved to another holder, read back. Each runs as an
/// unprivileged user; its sockets lie on the volume, so that it meets no other server.
namespace ordinald::testing {
namespace {

const std::string postgres_programs = "/usr/lib/postgresql/15/bin/";

/// nullptr: it can't run here, and the reason is printed.
const passwd* user_for(const std::string& program, const char* user) {
  const passwd* found = ::getpwnam(user);
  if (found == nullptr || ::access(program.c_str(), X_OK) != 0) {
    std::printf("SKIPPED: %s or its user %s is missing; packaging/install-dependencies test\n", program.c_str(), user);
    return nullptr;
  }
  return found;
}

Ended run_as(Running::User user, const std::vector<std::string>& argv) { return Running{argv, {{"LC_ALL", "C.UTF-8"}}, user}.wait(); }

std::string must_run_as(Running::User user, const std::vector<std::string>& argv) {
  const Ended ended = run_as(user, argv);
  INFO(argv[0] << ": " << ended.out << ended.err);
  REQUIRE(ended.status == 0);
  return ended.out;
}

void must(ClaimBed& bed, const std::vector<std::string>& arguments) {
  const Ended ended = bed.ctl(arguments);
  INFO(arguments[0] << ": " << ended.err);
  REQUIRE(ended.status == 0);
}

}  // namespace

TEST_CASE("a PostgreSQL that is killed is found again by the next unit", "[root]") {
  const passwd* account = user_for(postgres_programs + "postgres", "postgres");
  if (account == nullptr) return;
  const Running::User user{account->pw_uid, account->pw_gid};
  ClaimBed bed;
  bed.install("pg", {{"volumeClaimTemplates", {{{"name", "data"}, {"size", "256MiB"}, {"fsType", "ext4"}, {"mountOptions", {"noatime"}}}}},
                     {"unit", "postgres@.service"},
                     {"owner", "postgres"},
                     {"group", "postgres"},
                     {"mode", "0700"}});
  const std::string root = "/srv/pg-0/data";
  const std::string cluster = root + "/pgdata";
  const auto start = [&] {
    Running server{{postgres_programs + "postgres", "-D", cluster, "-k", root, "-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c",
                    "max_wal_size=32MB", "-c", "dynamic_shared_memory_type=mmap"},
                   {},
                   user};
    REQUIRE(server.prints("database system is ready to accept connections"));
    return server;
  };
  const auto sql = [&](const std::string& words) {
    return must_run_as(user, {postgres_programs + "psql", "-X", "-q", "-At", "-h", root, "-d", "postgres", "-c", words});
  };

  must(bed, {"claim", "pg-0"});
  must_run_as(user, {postgres_programs + "initdb", "-D", cluster, "-A", "trust", "--wal-segsize=1", "--no-locale", "-E", "UTF8"});
  {
    Running server = start();
    sql("create table t (n int, s text); insert into t select n, md5(n::text) from generate_series(1, 1000) n");
    CHECK(sql("show data_directory") == cluster + "\n");
    // While it runs nobody takes its volume away: the next unit waits, and so does unclaim.
    const Ended next = bed.ctl({"claim", "pg-0", "--unit", "postgres-new@0.service", "--timeout", "1"});
    CHECK(next.status == 4);
    CHECK_THAT(next.err, Catch::Contains("host/pg-0 (unit postgres@0.service)"));
    CHECK(bed.ctl({"unclaim", "pg-0", "--timeout", "0"}).status == 4);
    server.kill();
  }
  must(bed, {"unclaim", "pg-0"});  // the server's children end a moment after it
  CHECK_FALSE(fs::exists(root));

  must(bed, {"claim", "pg-0", "--unit", "postgres-new@0.service"});
  {
    Running server = start();  // recovers from its log
    CHECK(sql("select count(*), md5(string_agg(s, '' order by n)) from t") ==
          sql("select 1000, md5(string_agg(md5(n::text), '' order by n)) from generate_series(1, 1000) n"));
    server.kill();
  }
  must(bed, {"unclaim", "pg-0"});
  CHECK(bed.volumes().size() == 1);
}

TEST_CASE("a Redis that is killed is found again by the ordinal that its volume is bound to next", "[root]") {
  const passwd* account = user_for("/usr/bin/redis-server", "nobody");
  if (account == nullptr) return;
  const Running::User user{account->pw_uid, account->pw_gid};
  ClaimBed bed;
  bed.install("cache", {{"replicas", 2}, {"owner", "nobody"}, {"mode", "0700"}});
  const auto start = [&](const std::string& root) {
    Running server{{"/usr/bin/redis-server", "--dir", root, "--port", "0", "--unixsocket", root + "/socket", "--appendonly", "yes",
                    "--appendfsync", "always", "--save", "", "--daemonize", "no"},
                   {},
                   user};
    REQUIRE(server.prints("ready to accept connections"));
    return server;
  };
  const auto ask = [&](const std::string& root, std::vector<std::string> words) {
    words.insert(words.begin(), {"/usr/bin/redis-cli", "-s", root + "/socket"});
    return must_run_as(user, words);
  };

  must(bed, {"claim", "cache-0"});
  {
    Running server = start("/srv/cache-0/data");
    for (int i = 0; i < 20; ++i) CHECK(ask("/srv/cache-0/data", {"set", "key" + std::to_string(i), "value" + std::to_string(i)}) == "OK\n");
    server.kill();
  }
  must(bed, {"unclaim", "cache-0"});

  // The volume goes to another ordinal, and the first gets a new one.
  if (!fs::exists(bed.root() / "agent" / "run" / "admin.sock")) {
    std::printf("SKIPPED: a claim's volume bound to another ordinal: this agent has no admin socket\n");
    return;
  }
  must(bed, {"rebind", "host/data-cache-0", "host/data-cache-1", "--yes"});
  must(bed, {"claim", "cache-1"});
  {
    Running server = start("/srv/cache-1/data");
    CHECK(ask("/srv/cache-1/data", {"dbsize"}) == "20\n");
    CHECK(ask("/srv/cache-1/data", {"get", "key7"}) == "value7\n");
    server.kill();
  }
  must(bed, {"claim", "cache-0"});
  CHECK_FALSE(fs::exists("/srv/cache-0/data/appendonlydir"));
  must(bed, {"unclaim", "cache-1"});
  must(bed, {"unclaim", "cache-0"});
  CHECK(bed.volumes().size() == 2);
}

}  // namespace ordinald::testing
