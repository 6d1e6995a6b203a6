// Rule 6, over every field of every request by reflection: a field with the `csi_secret` option, and mount_flags, never reach a log line or
// an error's text, at any level, whatever they hold and whether the call is served or refused.
#include <google/protobuf/descriptor.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "csi/redact.hpp"
#include "tests/csi/running_server.hpp"

using namespace ordinald;
using namespace ordinald::csi;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

namespace {

constexpr const char* secret_marker = "SeCrEt";

/// Said here once more, apart from what redact thinks.
bool is_secret(const FieldDescriptor& field) { return field.options().GetExtension(v1::csi_secret) || field.name() == "mount_flags"; }

struct Filling {
  std::string secret = secret_marker;  ///< what secret fields hold
  int choice = 0;                      ///< which member of a oneof is set
  bool served_only = false;            ///< leaves out what convert refuses as not served, so that the call reaches the port
  int enum_number = 1;
};

std::string plain_value(const FieldDescriptor& field) {
  if (field.name().ends_with("path")) {
    return "/plain/" + field.name();
  }
  return field.name() == "volume_mount_group" ? "1000" : "plain";
}

void fill(Message& message, const Filling& filling, bool secret, int& secrets);

void fill_field(Message& message, const FieldDescriptor& field, const Filling& filling, bool secret, int& secrets) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING: {
      secrets += secret ? 1 : 0;
      const std::string value = secret ? filling.secret : plain_value(field);
      field.is_repeated() ? reflection.AddString(&message, &field, value) : reflection.SetString(&message, &field, value);
      break;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      fill(field.is_repeated() ? *reflection.AddMessage(&message, &field) : *reflection.MutableMessage(&message, &field), filling, secret,
           secrets);
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      reflection.SetBool(&message, &field, true);
      break;
    case FieldDescriptor::CPPTYPE_INT32:
      reflection.SetInt32(&message, &field, 1);
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      reflection.SetInt64(&message, &field, 1);
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      reflection.SetEnumValue(&message, &field, filling.enum_number);
      break;
    default:
      FAIL("a field of a type that this test doesn't know: " << field.full_name());
  }
}

/// Fills every field; those that are secret, or lie within one, with the secret.
void fill(Message& message, const Filling& filling, bool secret, int& secrets) {
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const auto& field = *type.field(i);
    if (const auto* oneof = field.containing_oneof(); oneof != nullptr && oneof->field(filling.choice % oneof->field_count()) != &field) {
      continue;
    }
    if (filling.served_only && (field.name() == "volume_content_source" || field.name() == "mutable_parameters")) {
      continue;
    }
    fill_field(message, field, filling, secret || is_secret(field), secrets);
  }
}

std::unique_ptr<Message> new_message(const Descriptor& type) {
  return std::unique_ptr<Message>{google::protobuf::MessageFactory::generated_factory()->GetPrototype(&type)->New()};
}

/// Calls `use(method path, input type)` for each method of the interface.
void each_method(const auto& use) {
  const auto& file = *v1::Volume::descriptor()->file();
  for (int i = 0; i < file.service_count(); ++i) {
    for (int j = 0; j < file.service(i)->method_count(); ++j) {
      const auto& method = *file.service(i)->method(j);
      use("/" + file.service(i)->full_name() + "/" + method.name(), *method.input_type());
    }
  }
}

bool shows_secret(const std::string& text) { return text.find(secret_marker) != std::string::npos; }

std::vector<Filling> fillings() {
  std::string many;
  while (many.size() < 5000) {
    many += secret_marker;
  }
  std::vector<Filling> result;
  for (const auto& secret : {std::string{secret_marker}, many, secret_marker + std::string{"\x01"}, secret_marker + std::string{"\n=,"}}) {
    for (int choice = 0; choice < 2; ++choice) {
      for (const bool served_only : {true, false}) {
        for (const int number : {1, 0, 77}) {
          result.push_back({.secret = secret, .choice = choice, .served_only = served_only, .enum_number = number});
        }
      }
    }
  }
  return result;
}

}  // namespace

TEST_CASE("no message's log text holds a secret or a mount flag", "[csi][secrets]") {
  const auto& file = *v1::Volume::descriptor()->file();
  int secrets = 0;
  for (const auto& filling : fillings()) {
    for (int i = 0; i < file.message_type_count(); ++i) {
      const auto message = new_message(*file.message_type(i));
      int here = 0;
      fill(*message, filling, false, here);
      secrets += here;
      const auto text = redact(*message);
      CAPTURE(file.message_type(i)->full_name());
      CHECK_FALSE(shows_secret(text));
      CHECK(text.find('\n') == std::string::npos);
      if (here > 0) {
        CHECK(text.find("(hidden)") != std::string::npos);
      }
    }
  }
  CHECK(secrets > 1000);  // or this test proves nothing
}

TEST_CASE("no call's log lines and no error's text hold a secret or a mount flag, at any level", "[csi][secrets]") {
  RunningServer server{{}, mount::LogLevel::trace};
  int served = 0;
  int refused = 0;
  for (const bool failing : {false, true}) {
    server.ops.hook = [failing](const std::string& verb) -> Result<void> {
      if (failing) {
        return mount::make_error(mount::ErrorCode::internal, verb + " failed");
      }
      return mount::success();
    };
    for (const auto& filling : fillings()) {
      each_method([&](const std::string& path, const Descriptor& type) {
        const auto request = new_message(type);
        int secrets = 0;
        fill(*request, filling, false, secrets);
        const auto status = raw_call(server.channel, path, request->SerializeAsString());
        CAPTURE(path, status.error_message());
        CHECK_FALSE(shows_secret(status.error_message()));
        CHECK_FALSE(shows_secret(status.error_details()));
        CHECK(status.ok() == status.error_message().empty());
        (status.ok() ? served : refused) += secrets > 0 ? 1 : 0;
      });
    }
  }
  REQUIRE(server.server->shutdown(std::chrono::seconds{5}));
  CHECK_FALSE(shows_secret(server.log.text()));
  CHECK(server.log.text().find("plain") != std::string::npos);
  CHECK(served > 50);
  CHECK(refused > 50);
  // The flags did reach the port, which has to know them.
  CHECK(server.ops.publish_args.capability.mount_flags == std::vector<std::string>{secret_marker + std::string{"\n=,"}});
}
