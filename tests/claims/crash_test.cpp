#ifdef ORDINALD_CRASH_POINTS
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>

#include "mount/crash_point.hpp"
#include "tests/claims/bed.hpp"

/// ordinalctl killed behind each of its acts; the next run of it finishes, or takes back.
namespace ordinald::testing {
namespace {

using Arguments = std::vector<std::string>;

/// Runs of ordinalctl that die at their act of a number.
class Deaths {
 public:
  explicit Deaths(ClaimBed& bed) : bed_(bed), file_(bed.root() / "crash-page") {
    write_file(file_, std::string(sizeof(mount::CrashPage), '\0'));
    const int fd = ::open(file_.c_str(), O_RDWR | O_CLOEXEC);
    void* memory = ::mmap(nullptr, sizeof(mount::CrashPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    REQUIRE(memory != MAP_FAILED);
    page_ = static_cast<mount::CrashPage*>(memory);
  }
  Deaths(const Deaths&) = delete;
  Deaths& operator=(const Deaths&) = delete;
  ~Deaths() { ::munmap(page_, sizeof(mount::CrashPage)); }

  /// False: it has fewer acts, and ended well.
  bool run(const Arguments& arguments, std::uint32_t at) {
    page_->passed = 0;
    page_->at = at;
    const Ended ended = bed_.ctl(arguments, {{"ORDINALD_CRASH_PAGE", file_}});
    page_->at = 0;
    if (ended.status == 1009) {
      return true;
    }
    INFO(ended.err);
    CHECK(ended.status == 0);
    return false;
  }
  std::string act() const { return page_->act; }

 private:
  ClaimBed& bed_;
  fs::path file_;
  mount::CrashPage* page_ = nullptr;
};

/// `prepare`, the run with its death, `after`; for each act that it has. How many there were.
std::uint32_t at_each_act(ClaimBed& bed, const Arguments& arguments, const std::function<void()>& prepare,
                          const std::function<void(std::uint32_t)>& after) {
  Deaths deaths{bed};
  std::uint32_t at = 0;
  bool died = true;
  while (died) {
    prepare();
    died = deaths.run(arguments, ++at);
    INFO("killed behind act " << at << ", " << deaths.act());
    after(at);
  }
  return at - 1;
}

void must(ClaimBed& bed, const Arguments& arguments) {
  const Ended ended = bed.ctl(arguments);
  INFO(arguments.front() << ": " << ended.err);
  REQUIRE(ended.status == 0);
}

/// Nothing is mounted, and the run directory has locks only.
void check_clean(const ClaimBed& bed) {
  CHECK_FALSE(fs::exists("/srv/db-0"));
  for (const fs::directory_entry& entry : fs::directory_iterator{bed.run_dir()}) {
    INFO(entry.path());
    CHECK((entry.path().extension() == ".lock" || entry.path().string().ends_with(".tmp")));
  }
}

}  // namespace

TEST_CASE("claim and unclaim can die behind any of their acts", "[root]") {
  ClaimBed bed;
  bed.install("db", {{"owner", "nobody"}, {"mode", "0750"}});
  std::uint32_t acts = at_each_act(
      bed, {"claim", "db-0"}, [] {},
      [&](std::uint32_t at) {
        if (at % 2 == 0) {
          must(bed, {"claim", "db-0"});
          write_file("/srv/db-0/data/ours", "x");
        }
        must(bed, {"unclaim", "db-0"});
        check_clean(bed);
        CHECK(bed.volumes().size() <= 1);
        for (const auto& [claim, volume] : bed.volumes()) {
          REQUIRE(bed.client().delete_volume(volume.id, std::chrono::seconds{30}));
        }
      });
  acts += at_each_act(
      bed, {"unclaim", "db-0"},
      [&] {
        must(bed, {"claim", "db-0"});
        write_file("/srv/db-0/data/ours", "kept");
      },
      [&](std::uint32_t at) {
        if (at % 2 == 0) {
          must(bed, {"claim", "db-0"});
          CHECK(read_file("/srv/db-0/data/ours") == "kept");
        }
        must(bed, {"unclaim", "db-0"});
        check_clean(bed);
      });
  CHECK(bed.volumes().size() == 1);
  CHECK(acts > 30);
  std::printf("COUNT: acts of claim and unclaim behind which it was killed: %u\n", acts);
}

TEST_CASE("scale, delete and hosts can die behind any of their acts", "[root]") {
  ClaimBed bed;
  const auto install = [&](int replicas) {
    bed.install("db", {{"replicas", replicas},
                       {"addressBase", "127.0.10.1"},
                       {"retentionPolicy", {{"whenScaled", "Delete"}, {"whenDeleted", "Delete"}}}});
  };
  std::uint32_t acts = at_each_act(
      bed, {"scale", "db", "2"}, [&] { install(1); },
      [&](std::uint32_t) {
        must(bed, {"scale", "db", "2"});
        CHECK(bed.volumes().size() == 2);
        must(bed, {"scale", "db", "0", "--yes"});
        CHECK(bed.volumes().empty());
      });
  acts += at_each_act(
      bed, {"scale", "db", "1", "--yes"},
      [&] {
        install(2);
        must(bed, {"apply", bed.set_file("db"), "--yes"});
      },
      [&](std::uint32_t) {
        must(bed, {"scale", "db", "1", "--yes"});
        CHECK(bed.volumes().size() == 1);
        CHECK(bed.volumes().contains("data-db-0"));
      });
  acts += at_each_act(
      bed, {"delete", "db", "--yes"},
      [&] {
        install(1);
        must(bed, {"apply", bed.set_file("db"), "--yes"});
        must(bed, {"hosts", "db", "--install"});
      },
      [&](std::uint32_t) {
        const fs::path left = bed.set_file("db").string() + ".deleting";
        CHECK((!bed.volumes().empty() || !fs::exists(bed.set_file("db"))));  // a boot would begin it anew, empty
        if (fs::exists(left)) {                                              // from its first volume on nobody makes another in its place
          CHECK_FALSE(fs::exists(bed.set_file("db")));
          const std::size_t volumes = bed.volumes().size();
          CHECK(bed.ctl({"claim", "db-0"}).status == 2);
          CHECK(bed.volumes().size() == volumes);
        }
        if (fs::exists(bed.set_file("db")) || fs::exists(left)) {
          must(bed, {"delete", "db", "--yes"});
        }
        CHECK_FALSE(fs::exists(bed.set_file("db")));
        CHECK_FALSE(fs::exists(left));
        CHECK(bed.volumes().empty());
        CHECK(read_file(bed.hosts()) == "127.0.0.1\tlocalhost\n");
      });
  std::printf("COUNT: acts of scale and delete behind which it was killed: %u\n", acts);
}

}  // namespace ordinald::testing
#endif
