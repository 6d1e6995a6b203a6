#include "csi/redact.hpp"

#include <fmt/core.h>
#include <google/protobuf/descriptor.h>

#include <vector>

#include "csi.pb.h"

namespace ordinald::csi {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr std::size_t shown_bytes = 128;

/// One value of the field; `index` -1 where it isn't repeated.
std::string value_text(const Message& message, const FieldDescriptor& field, int index) {
  const auto& reflection = *message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string scratch;
      return quote(one ? reflection.GetStringReference(message, &field, &scratch)
                       : reflection.GetRepeatedStringReference(message, &field, index, &scratch));
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return redact(one ? reflection.GetMessage(message, &field) : reflection.GetRepeatedMessage(message, &field, index));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (one ? reflection.GetBool(message, &field) : reflection.GetRepeatedBool(message, &field, index)) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_INT32:
      return std::to_string(one ? reflection.GetInt32(message, &field) : reflection.GetRepeatedInt32(message, &field, index));
    case FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(one ? reflection.GetInt64(message, &field) : reflection.GetRepeatedInt64(message, &field, index));
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = one ? reflection.GetEnumValue(message, &field) : reflection.GetRepeatedEnumValue(message, &field, index);
      const auto* value = field.enum_type()->FindValueByNumber(number);
      return value != nullptr ? value->name() : std::to_string(number);
    }
    default:  // the interface has no field of another type
      return "?";
  }
}

std::string field_text(const Message& message, const FieldDescriptor& field) {
  if (is_hidden(field)) {
    return "(hidden)";
  }
  if (!field.is_repeated()) {
    return value_text(message, field, -1);
  }
  std::string text = "[";
  const int size = message.GetReflection()->FieldSize(message, &field);
  for (int i = 0; i < size; ++i) {
    text += i == 0 ? "" : " ";
    text += value_text(message, field, i);
  }
  return text + "]";
}

}  // namespace

bool is_hidden(const FieldDescriptor& field) {
  // The interface has no `csi_secret` on mount_flags, and asks for the same care in words.
  return field.options().GetExtension(::csi::v1::csi_secret) ||
         (field.number() == ::csi::v1::VolumeCapability_MountVolume::kMountFlagsFieldNumber &&
          field.containing_type() == ::csi::v1::VolumeCapability_MountVolume::descriptor());
}

std::string redact(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  std::string text = "{";
  for (const auto* field : fields) {
    text += text.size() == 1 ? "" : " ";
    text += field->name() + "=" + field_text(message, *field);
  }
  return text + "}";
}

std::string one_line(std::string_view text, std::size_t limit) {
  std::string line;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (i >= limit && (byte & 0xc0U) != 0x80U) {  // never in the middle of a UTF-8 sequence
      return line + "…";
    }
    if (byte == '"' || byte == '\\') {
      line += '\\';
      line += text[i];
    } else if (byte == '\n') {
      line += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += text[i];
    }
  }
  return line;
}

std::string quote(std::string_view text) { return '"' + one_line(text, shown_bytes) + '"'; }

}  // namespace ordinald::csi
