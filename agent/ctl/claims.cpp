#include "agent/ctl/claims.hpp"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "agent/ctl/signal_watch.hpp"
#include "agent/ctl/text.hpp"
#include "mount/crash_point.hpp"
#include "mount/files.hpp"

namespace ordinald::ctl {
namespace {

using mount::acted;

constexpr const char* pvc_name = "csi.storage.k8s.io/pvc/name";
constexpr const char* pvc_namespace = "csi.storage.k8s.io/pvc/namespace";
constexpr int most_names = 20;

/// Of a volume that is to be made.
csi::Capability new_capability(const ClaimTemplate& of) {
  const bool alone = of.mode == ClaimMode::read_write_once_pod;
  return {.block = false,
          .mode = alone ? csi::AccessMode::single_node_single_writer : csi::AccessMode::single_node_multi_writer,
          .fs_type = of.fs_type,
          .mount_flags = of.mount_options,
          .group = {}};
}

/// Of a volume that there is: its filesystem is the one that it was made with, whatever the template says by now.
csi::Capability capability_of(const ClaimTemplate& of) {
  csi::Capability capability = new_capability(of);
  capability.fs_type.clear();
  return capability;
}

csi::CapacityRange at_least(std::uint64_t size) { return {.required = static_cast<std::int64_t>(size), .limit = 0}; }

std::string text_of(std::uint64_t size) { return size_text(static_cast<std::int64_t>(size)); }

/// A refusal that ends when somebody lets go.
Result<void> by_holder(Result<void> result) {
  if (!result && (result.error().code == "FAILED_PRECONDITION" || result.error().code == "ALREADY_EXISTS")) {
    return Failure{Exit::busy, result.error().code, result.error().message};
  }
  return result;
}

void remember(std::vector<ClaimedVolume>& list, const ClaimedVolume& volume) {
  if (std::ranges::find(list, volume) == list.end()) {
    list.push_back(volume);
  }
}

/// Whoever is told to end begins nothing more, and has not claimed the whole.
Result<void> refuse_broken_off() {
  return SignalWatch::broken_off().empty() ? Result<void>{mount::success()} : failure(Exit::busy, "it has not all of its volumes yet");
}

/// A call that takes something back: done also where the volume is no more.
template <class Call>
Result<void> undone(const char* call, const ClaimedVolume& volume, Patience& patience, Call attempt) {
  auto done = patience.until_done(Waits::for_holders, [&](Timeout timeout) { return by_holder(attempt(timeout)); });
  acted(call, volume.id);
  return !done && done.error().code == "NOT_FOUND" ? Result<void>{mount::success()} : done;
}

}  // namespace

Result<void> refuse_twins(const std::string& claim, const KnownVolume& volume) {
  if (volume.twin.empty()) {
    return mount::success();
  }
  return failure(Exit::failed, "two volumes have the claim host/" + claim + ": " + volume.id + " and " + volume.twin +
                                   "; bind one of them to another claim (ordinalctl rebind)");
}

Result<void> refuse_other_units(const std::string& ordinal, const Claimed& claimed, const std::string& by) {
  if (claimed.by.empty() || by.empty() || claimed.by == by) {
    return mount::success();
  }
  return failure(Exit::busy, ordinal + " was claimed by " + claimed.by + ", which alone takes it back, and not " + by +
                                 " (by hand: ordinalctl unclaim " + ordinal + ")");
}

Result<std::map<std::string, KnownVolume>> Claims::volumes(Patience& patience) {
  TRY(const auto all, patience.until_done(Waits::for_calls, [&](Timeout timeout) { return client_.list_volumes(timeout); }));
  // Whose a volume is by now is no part of CSI's answers: what they say of a volume never changes, and `rebind` changes this.
  TRY(const auto shown,
      patience.until_done(Waits::for_calls, [&](Timeout timeout) { return session_.patient_admin(timeout).get("/v1/volumes"); }));
  const std::string ours = std::string{claim_namespace} + "/";
  std::map<std::string, std::string> claims;  // by id
  for (const nlohmann::json& volume : list_at(shown, "volumes")) {
    if (const std::string claim = text_at(volume, "claim"); claim.starts_with(ours)) {
      claims.emplace(text_at(volume, "id"), claim.substr(ours.size()));
    }
  }
  std::map<std::string, KnownVolume> volumes;
  for (const csi::Volume& volume : all) {
    const auto known = claims.find(volume.id);
    if (known == claims.end()) {
      continue;
    }
    const std::string& claim = known->second;
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
      .name = claim, .capacity = at_least(of.size), .capabilities = {new_capability(of)}, .parameters = of.parameters, .requisite = {}};
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

Result<std::vector<ClaimedVolume>> Claims::claim(const ClaimSet& set, std::int64_t ordinal, const Claimant& claimant, Patience& patience) {
  const std::string name = ordinal_name(set, ordinal);
  const auto claimed = load_claimed(name);
  const Claimed before = claimed.value_or(Claimed{});
  TRYV(refuse_other_units(name, before, claimant.by));
  TRY(const RootAccess access, look_up_access(set));
  TRY(const auto known, volumes(patience));
  for (const ClaimTemplate& of : set.templates) {
    const std::string claim = claim_name(of, set, ordinal);
    if (!known.contains(claim)) {
      TRYV(create(of, claim, patience));
      session_.notes().line(fmt::format("{}: made {}, {}", name, claim, text_of(of.size)));
    }
  }
  TRY(const auto wanted, places(set, ordinal, patience));
  if (wanted.size() != set.templates.size()) {
    return failure(Exit::failed, name + ": a volume of it was deleted while it was being claimed; claim it again");
  }

  // What an older claim file put elsewhere goes first. It stays on the list until it is gone, whatever happens in between.
  Claimed now{.volumes = wanted, .by = before.by, .unit = before.unit};
  if (const std::string unit = unit_of(set, ordinal); now.unit.empty() && claimant.unit == unit) {
    now.unit = unit;  // until it is unclaimed: that one may run on when the file names another
  }
  std::vector<ClaimedVolume> stale;
  for (const ClaimedVolume& volume : before.volumes) {
    if (std::ranges::find(wanted, volume) == wanted.end()) {
      stale.push_back(volume);
      now.volumes.push_back(volume);
    }
  }
  TRYV(save_claimed(name, now));
  ours_alone_ = !claimed || ours_alone_;
  for (const ClaimedVolume& volume : stale) {
    TRYV(take_back(volume, patience));
  }
  now.volumes = wanted;
  if (!stale.empty()) {
    TRYV(save_claimed(name, now));
  }

  csi::StringMap holder{{"csi.storage.k8s.io/pod.namespace", claim_namespace}, {"csi.storage.k8s.io/pod.name", name}};
  if (!claimant.unit.empty()) {
    holder.emplace("ordinald.io/unit", claimant.unit);
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    TRYV(refuse_broken_off());
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
  TRYV(refuse_broken_off());
  if (!claimant.by.empty() && now.by != claimant.by) {  // not before it has them: who does not get them must keep nobody out
    now.by = claimant.by;
    TRYV(save_claimed(name, now));
  }
  TRYV(write_environment(set, ordinal, wanted));
  return wanted;
}

Result<void> Claims::bring_up(const ClaimTemplate& of, const ClaimedVolume& volume, const csi::StringMap& holder, Patience& patience) {
  TRYV(mount::make_directories(std::filesystem::path{volume.staging}.parent_path(), 0700));
  TRYV(mount::make_directories(volume.staging, 0700));
  acted("making the directory", volume.staging);
  if (ours_alone_) {
    remember(staged_, volume);  // also where the answer stays away, or is a refusal that leaves the directory
  }
  TRYV(patience.until_done(Waits::for_calls, [&](Timeout timeout) {
    return client_.stage({.volume_id = volume.id,
                          .staging_path = volume.staging,
                          .capability = capability_of(of),
                          .publish_context = {},
                          .volume_context = {}},
                         timeout);
  }));
  acted("NodeStageVolume", volume.id);
  remember(staged_, volume);
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
    if (published) {
      remember(published_, volume);
    }
    if (!published && !std::filesystem::exists(above)) {
      return Failure{Exit::busy, "ABORTED", above + " was removed while " + volume.claim + " was being published; once more"};
    }
    return by_holder(published);
  });
}

void Claims::give_back(const std::string& ordinal, Patience& patience) {
  const bool has_none = staged_.empty() && !ours_alone_;
  if (has_none || std::filesystem::exists(environment_path(ordinal))) {  // the last thing that a whole claim writes
    return;
  }
  bool all = true;
  std::ranges::reverse(staged_);
  for (const ClaimedVolume& volume : staged_) {
    if (std::ranges::find(published_, volume) != published_.end()) {
      all = take_back(volume, patience) && all;
      continue;
    }
    tidy_above(volume.target, volume.keeps);
    all = unstage(volume, patience) && all;  // where somebody else has it published, the agent refuses
  }
  if (all) {
    static_cast<void>(forget_claimed(ordinal));
  }
}

Result<void> Claims::unclaim(const std::string& ordinal, const std::vector<ClaimedVolume>& expected, Patience& patience) {
  std::vector<ClaimedVolume> volumes = load_claimed(ordinal).value_or(Claimed{.volumes = expected, .by = {}, .unit = {}}).volumes;
  std::ranges::reverse(volumes);
  for (const ClaimedVolume& volume : volumes) {
    TRYV(take_back(volume, patience));
  }
  return forget_claimed(ordinal);
}

Result<void> Claims::take_back(const ClaimedVolume& volume, Patience& patience) {
  TRYV(undone("NodeUnpublishVolume", volume, patience,
              [&](Timeout timeout) { return client_.unpublish({.volume_id = volume.id, .target_path = volume.target}, timeout); }));
  tidy_above(volume.target, volume.keeps);
  return unstage(volume, patience);
}

Result<void> Claims::unstage(const ClaimedVolume& volume, Patience& patience) {
  TRYV(undone("NodeUnstageVolume", volume, patience,
              [&](Timeout timeout) { return client_.unstage({.volume_id = volume.id, .staging_path = volume.staging}, timeout); }));
  tidy_above(volume.staging + "/.", claims_run_dir());
  return mount::success();
}

}  // namespace ordinald::ctl
