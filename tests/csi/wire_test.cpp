// The compiled interface against the table of CSI 1.13, row by row and both ways: no row missing, nothing extra.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "csi.pb.h"

namespace v1 = ::csi::v1;

namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::ServiceDescriptor;

/// What the table's columns hold: kind, name, number, member, type, label, oneof, options.
struct Row {
  std::string kind, name, number, member, type, label, oneof, options;

  [[nodiscard]] std::string text() const {
    return kind + '\t' + name + '\t' + number + '\t' + member + '\t' + type + '\t' + label + '\t' + oneof + '\t' + options;
  }
};

std::string type_of(const FieldDescriptor& field) {
  if (field.is_map()) {
    const auto& entry = *field.message_type();
    return "map<" + type_of(*entry.map_key()) + "," + type_of(*entry.map_value()) + ">";
  }
  if (const auto* message = field.message_type(); message != nullptr) {
    return message->full_name();
  }
  if (const auto* type = field.enum_type(); type != nullptr) {
    return type->full_name();
  }
  return field.type_name();
}

std::string alpha(bool is) { return is ? "alpha" : ""; }

class Rows {
 public:
  explicit Rows(const FileDescriptor& file) {
    for (int i = 0; i < file.extension_count(); ++i) {
      const auto& extension = *file.extension(i);
      add({.kind = "extension",
           .name = extension.full_name(),
           .number = std::to_string(extension.number()),
           .member = extension.containing_type()->full_name(),
           .type = type_of(extension),
           .label = {},
           .oneof = {},
           .options = {}});
    }
    for (int i = 0; i < file.service_count(); ++i) {
      service(*file.service(i));
    }
    for (int i = 0; i < file.enum_type_count(); ++i) {
      enumeration(*file.enum_type(i));
    }
    for (int i = 0; i < file.message_type_count(); ++i) {
      message(*file.message_type(i));
    }
  }

  std::vector<std::string> lines;

 private:
  void add(const Row& row) { lines.push_back(row.text()); }

  void service(const ServiceDescriptor& service) {
    for (int i = 0; i < service.method_count(); ++i) {
      const auto& method = *service.method(i);
      const std::string type = (method.client_streaming() ? "stream " : "") + method.input_type()->full_name() + " -> " +
                               (method.server_streaming() ? "stream " : "") + method.output_type()->full_name();
      add({.kind = "rpc",
           .name = service.full_name(),
           .number = {},
           .member = method.name(),
           .type = type,
           .label = {},
           .oneof = {},
           .options = alpha(method.options().GetExtension(v1::alpha_method))});
    }
  }

  void enumeration(const EnumDescriptor& type) {
    for (int i = 0; i < type.value_count(); ++i) {
      const auto& value = *type.value(i);
      add({.kind = "enum",
           .name = type.full_name(),
           .number = std::to_string(value.number()),
           .member = value.name(),
           .type = {},
           .label = {},
           .oneof = {},
           .options = alpha(value.options().GetExtension(v1::alpha_enum_value))});
    }
    for (int i = 0; i < type.reserved_range_count(); ++i) {
      for (int number = type.reserved_range(i)->start; number <= type.reserved_range(i)->end; ++number) {
        reserved(type.full_name(), number);
      }
    }
  }

  void message(const Descriptor& type) {
    if (type.options().map_entry()) {
      return;
    }
    add({.kind = "message",
         .name = type.full_name(),
         .number = {},
         .member = {},
         .type = {},
         .label = {},
         .oneof = {},
         .options = alpha(type.options().GetExtension(v1::alpha_message))});
    for (int i = 0; i < type.field_count(); ++i) {
      field(type, *type.field(i));
    }
    for (int i = 0; i < type.reserved_range_count(); ++i) {
      for (int number = type.reserved_range(i)->start; number < type.reserved_range(i)->end; ++number) {
        reserved(type.full_name(), number);
      }
    }
    for (int i = 0; i < type.enum_type_count(); ++i) {
      enumeration(*type.enum_type(i));
    }
    for (int i = 0; i < type.nested_type_count(); ++i) {
      message(*type.nested_type(i));
    }
  }

  void field(const Descriptor& type, const FieldDescriptor& field) {
    std::string options = field.options().GetExtension(v1::csi_secret) ? "secret" : "";
    if (field.options().GetExtension(v1::alpha_field)) {
      options += options.empty() ? "alpha" : " alpha";
    }
    add({.kind = "field",
         .name = type.full_name(),
         .number = std::to_string(field.number()),
         .member = field.name(),
         .type = type_of(field),
         .label = field.is_repeated() && !field.is_map() ? "repeated" : "",
         .oneof = field.containing_oneof() != nullptr ? field.containing_oneof()->name() : "",
         .options = options});
  }

  void reserved(const std::string& name, int number) {
    add({.kind = "reserved",
         .name = name,
         .number = std::to_string(number),
         .member = {},
         .type = {},
         .label = {},
         .oneof = {},
         .options = {}});
  }
};

std::vector<std::string> table() {
  std::ifstream file{ORDINALD_SOURCE_DIR "/tests/data/csi-wire.tsv"};
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  REQUIRE(lines.size() > 400);
  REQUIRE(lines.front() == "kind\tname\tnumber\tmember\ttype\tlabel\toneof\toptions");
  lines.erase(lines.begin());
  return lines;
}

std::string missing_from(const std::vector<std::string>& some, const std::vector<std::string>& others) {
  std::vector<std::string> missing;
  std::set_difference(some.begin(), some.end(), others.begin(), others.end(), std::back_inserter(missing));
  std::string text;
  for (const auto& line : missing) {
    text += line + '\n';
  }
  return text;
}

}  // namespace

TEST_CASE("the compiled interface is the table's, row by row", "[csi][wire]") {
  const auto& file = *v1::Volume::descriptor()->file();
  CHECK(file.package() == "csi.v1");
  CHECK(file.syntax() == FileDescriptor::SYNTAX_PROTO3);

  auto compiled = Rows{file}.lines;
  auto wanted = table();
  std::sort(compiled.begin(), compiled.end());
  std::sort(wanted.begin(), wanted.end());
  CHECK(missing_from(wanted, compiled).empty());
  CHECK(missing_from(compiled, wanted).empty());
}
