#include "agent/ctl/claims.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "agent/ctl/text.hpp"
#include "mount/crash_point.hpp"
#include "mount/files.hpp"

namespace ordinald::ctl {
namespace {

using mount::acted;

constexpr const char* pvc_name = "csi.storage.k8s.io/pvc/name";
constexpr const char* pvc_namespace = "csi.storage.k8s.io/pvc/namespace";
constexpr int most_names = 20;

csi::Capability capability_of(const ClaimTemplate& of) {
  const bool alone = of.mode == ClaimMode::read_write_once_pod;
  return {.block = false,
          .mode = alone ? csi::AccessMode::single_node_single_writer : csi::AccessMode::single_node_multi_writer,
          .fs_type = of.fs_type,
          .mount_flags = of.mount_options,
          .group = {}};
}

csi::CapacityRange at_least(std::uint64_t size) { return {.required = static_cast<std::int64_t>(size), .limit = 0}; }

std::string value_at(const csi::StringMap& map, const char* key) {
  const auto found = map.find(key);
  return found == map.end() ? std::string{} : found->second;
}

std::string text_of(std::uint64_t size) { return size_text(static_cast<std::int64_t>(size)); }

/// A refusal that ends when somebody lets go.
Result<void> by_holder(Result<void> result) {
  if (!result && (result.error().code == "FAILED_PRECONDITION" || result.error().code == "ALREADY_EXISTS")) {
    return Failure{Exit::busy, result.error().code, result.error().message};
  }
  return result;
}

}  // namespace

Result<void> refuse_twins(const std::string& claim, const KnownVolume& volume) {
  if (volume.twin.empty()) {
    return mount::success();
  }
  return failure(Exit::failed, "two volumes have the claim host/" + claim + ": " + volume.id + " and " + volume.twin +
                                   "; bind one of them to another claim (ordinalctl rebind)");
}

Result<std::map<std::string, KnownVolume>> Claims::volumes(Patience& patience) {
  TRY(const auto all, patience.until_done(Waits::for_calls, [&](Timeout timeout) { return client_.list_volumes(timeout); }));
  std::map<std::string, KnownVolume> volumes;
  for (const csi::Volume& volume : all) {
    const std::string claim = value_at(volume.context, pvc_name);
    if (claim.empty() || value_at(volume.context, pvc_namespace) != claim_namespace) {
      continue;
    }
    const auto [first, added] =
        volumes.emplace(claim, KnownVolume{.id = volume.id, .size = static_cast<std::uint64_t>(volume.capacity), .twin = {}});
    if (!added) {
      first->second.twin = volume.id;
    }
  }
  return volumes;
}

Result<KnownVolume> Claims::create(const ClaimTemplate& of, const std::string& claim, Patience& patience) {
  csi::CreateVolumeArgs args{
      .name = claim, .capacity = at_least(of.size), .capabilities = {capability_of(of)}, .parameters = of.parameters, .requisite = {}};
  args.parameters.emplace("identity", "ordinal");
  args.parameters.emplace(pvc_namespace, claim_namespace);
  args.parameters.emplace(pvc_name, claim);
  if (!of.pool.empty()) {
    args.parameters.emplace("pool", of.pool);
  }
  const auto attempt = [&](Timeout timeout) { return client_.create_volume(args, timeout); };
  // The name may be a volume's that was bound to another claim since, or was made for this one and is not listed before it is whole.
  for (int number = 1; number <= most_names; ++number) {
    args.name = number == 1 ? claim : claim + "." + std::to_string(number);
    args.capacity = at_least(of.size);
    auto made = patience.until_done(Waits::for_calls, attempt);
    acted("CreateVolume", claim);
    if (!made && made.error().code == "ALREADY_EXISTS") {
      args.capacity = {};
      made = patience.until_done(Waits::for_calls, attempt);
    }
    if (!made && made.error().code == "ALREADY_EXISTS") {
      continue;
    }
    if (!made) {
      return made.error();
    }
    TRY(const auto known, volumes(patience));
    if (const auto found = known.find(claim); found != known.end()) {
      return found->second;
    }
  }
  return failure(Exit::failed, "no volume could be made for the claim host/" + claim + ": " + std::to_string(most_names) +
                                   " volumes with its name belong to others (ordinalctl volumes)");
}

Result<void> Claims::grow(const ClaimTemplate& of, const KnownVolume& volume, const std::string& target, Patience& patience) {
  auto grown = patience.until_done(
      Waits::for_calls, [&](Timeout timeout) { return client_.expand_volume(volume.id, at_least(of.size), capability_of(of), timeout); });
  acted("ControllerExpandVolume", volume.id);
  // An agent whose controller grows nothing (controllerExpansion) has the node's call do all.
  const bool by_node = !grown && grown.error().code == "UNIMPLEMENTED";
  if (!grown && !by_node) {
    return grown.error();
  }
  if (!target.empty()) {
    auto followed = patience.until_done(Waits::for_calls, [&](Timeout timeout) {
      return client_.node_expand(
          {.volume_id = volume.id, .volume_path = target, .staging_path = {}, .capacity = at_least(of.size), .capability = {}}, timeout);
    });
    acted("NodeExpandVolume", volume.id);
    if (!followed && (by_node || followed.error().code != "FAILED_PRECONDITION")) {
      return followed.error();
    }
    if (!followed) {  // the volume has its size; the filesystem can't follow before it is staged anew, and the agent says why
      session_.notes().line({Words{"grown, but not its filesystem yet: ", Tone::warning}, followed.error().message});
    }
  } else if (by_node) {
    return failure(Exit::failed, "volume " + volume.id +
                                     ": the agent grows it only while it is claimed (its controllerExpansion is off); claim it first");
  }
  return mount::success();
}

Result<void> Claims::remove(const KnownVolume& volume, Patience& patience) {
  TRYV(patience.until_done(Waits::for_calls, [&](Timeout timeout) { return client_.delete_volume(volume.id, timeout); }));
  acted("DeleteVolume", volume.id);
  return mount::success();
}

Result<std::vector<ClaimedVolume>> Claims::places(const ClaimSet& set, std::int64_t ordinal, Patience& patience) {
  TRY(const auto known, volumes(patience));
  std::vector<ClaimedVolume> places;
  for (const ClaimTemplate& of : set.templates) {
    const std::string claim = claim_name(of, set, ordinal);
    if (const auto found = known.find(claim); found != known.end()) {
      TRYV(refuse_twins(claim, found->second));
      places.push_back({.of = of.name,
                        .claim = claim,
                        .id = found->second.id,
                        .staging = staging_path(claim),
                        .target = mount_path(set, of, ordinal),
                        .keeps = kept_directory(set)});
    }
  }
  return places;
}

Result<std::vector<ClaimedVolume>> Claims::claim(const ClaimSet& set, std::int64_t ordinal, const std::string& unit, Patience& patience) {
  const std::string name = ordinal_name(set, ordinal);
  TRY(const RootAccess access, look_up_access(set));
  TRY(const auto known, volumes(patience));
  for (const ClaimTemplate& of : set.templates) {
    const std::string claim = claim_name(of, set, ordinal);
    if (!known.contains(claim)) {
      TRYV(create(of, claim, patience));
      session_.notes().line(name + ": made " + claim + ", " + text_of(of.size));
    }
  }
  TRY(const auto wanted, places(set, ordinal, patience));
  if (wanted.size() != set.templates.size()) {
    return failure(Exit::failed, name + ": a volume of it was deleted while it was being claimed; claim it again");
  }

  // What an older claim file put elsewhere goes first. It stays on the list until it is gone, whatever happens in between.
  std::vector<ClaimedVolume> all = wanted;
  std::vector<ClaimedVolume> stale;
  for (const ClaimedVolume& volume : load_claimed(name).value_or(std::vector<ClaimedVolume>{})) {
    if (std::ranges::find(wanted, volume) == wanted.end()) {
      stale.push_back(volume);
      all.push_back(volume);
    }
  }
  TRYV(save_claimed(name, all));
  for (const ClaimedVolume& volume : stale) {
    TRYV(take_back(volume, patience));
  }
  if (!stale.empty()) {
    TRYV(save_claimed(name, wanted));
  }

  csi::StringMap holder{{"csi.storage.k8s.io/pod.namespace", claim_namespace}, {"csi.storage.k8s.io/pod.name", name}};
  if (!unit.empty()) {
    holder.emplace("ordinald.io/unit", unit);
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const ClaimTemplate& of = set.templates[i];
    const auto found = known.find(wanted[i].claim);
    const KnownVolume volume = found == known.end() ? KnownVolume{.id = wanted[i].id, .size = of.size, .twin = {}} : found->second;
    std::optional<Failure> not_grown;
    if (volume.size < of.size) {
      // Less room than was asked for is no reason to keep a database from starting.
      if (auto grown = grow(of, volume, "", patience); !grown) {
        not_grown = grown.error();
      }
    } else if (volume.size > of.size) {
      session_.notes().line({name + ": ", wanted[i].claim, " has ", text_of(volume.size), ", more than the ", text_of(of.size),
                             " of the claim file; volumes are never shrunk"});
    }
    TRYV(bring_up(of, wanted[i], holder, patience));
    if (not_grown) {
      auto grown = grow(of, volume, wanted[i].target, patience);
      if (!grown) {
        session_.notes().line(
            {Words{name + ": " + wanted[i].claim + " could not be grown, and is served as it is: ", Tone::warning}, grown.error().message});
      }
    }
    TRYV(settle_root(wanted[i].target, access));
  }
  TRYV(write_environment(set, ordinal));
  return wanted;
}

Result<void> Claims::bring_up(const ClaimTemplate& of, const ClaimedVolume& volume, const csi::StringMap& holder, Patience& patience) {
  TRYV(mount::make_directories(std::filesystem::path{volume.staging}.parent_path(), 0700));
  TRYV(mount::make_directories(volume.staging, 0700));
  acted("making the directory", volume.staging);
  TRYV(patience.until_done(Waits::for_calls, [&](Timeout timeout) {
    return client_.stage({.volume_id = volume.id,
                          .staging_path = volume.staging,
                          .capability = capability_of(of),
                          .publish_context = {},
                          .volume_context = {}},
                         timeout);
  }));
  acted("NodeStageVolume", volume.id);
  const std::string above = std::filesystem::path{volume.target}.parent_path();
  return patience.until_done(Waits::for_calls, [&](Timeout timeout) -> Result<void> {
    // Another ordinal's unclaim may tidy away a directory that both have, until this one is mounted in it.
    TRYV(mount::make_directories(above));
    acted("making the directory", above);
    auto published = client_.publish({.volume_id = volume.id,
                                      .staging_path = volume.staging,
                                      .target_path = volume.target,
                                      .capability = capability_of(of),
                                      .readonly = false,
                                      .publish_context = {},
                                      .volume_context = holder},
                                     timeout);
    acted("NodePublishVolume", volume.id);
    if (!published && !std::filesystem::exists(above)) {
      return Failure{Exit::busy, "ABORTED", above + " was removed while " + volume.claim + " was being published; once more"};
    }
    return by_holder(published);
  });
}

Result<void> Claims::unclaim(const std::string& ordinal, const std::vector<ClaimedVolume>& expected, Patience& patience) {
  std::vector<ClaimedVolume> volumes = load_claimed(ordinal).value_or(expected);
  std::ranges::reverse(volumes);
  for (const ClaimedVolume& volume : volumes) {
    TRYV(take_back(volume, patience));
  }
  return forget_claimed(ordinal);
}

Result<void> Claims::take_back(const ClaimedVolume& volume, Patience& patience) {
  const auto over = [&](const char* call, auto attempt) -> Result<void> {
    auto done = patience.until_done(Waits::for_holders, [&](Timeout timeout) { return by_holder(attempt(timeout)); });
    acted(call, volume.id);
    return !done && done.error().code == "NOT_FOUND" ? Result<void>{mount::success()} : done;
  };
  TRYV(over("NodeUnpublishVolume",
            [&](Timeout timeout) { return client_.unpublish({.volume_id = volume.id, .target_path = volume.target}, timeout); }));
  tidy_above(volume.target, volume.keeps);
  TRYV(over("NodeUnstageVolume",
            [&](Timeout timeout) { return client_.unstage({.volume_id = volume.id, .staging_path = volume.staging}, timeout); }));
  tidy_above(volume.staging + "/.", claims_run_dir());
  return mount::success();
}

}  // namespace ordinald::ctl
