#pragma once

#include <google/protobuf/message.h>

#include <cstddef>
#include <string>
#include <string_view>

/// Text of messages and values that is safe to log (rule 6: secrets and mount flags never appear, at any level).
namespace ordinald::csi {

/// One line with the set fields of the message, by reflection. Of a field with the `csi_secret` option, and of mount_flags, only that it is
/// set; fields that this build doesn't know aren't shown at all.
std::string redact(const google::protobuf::Message& message);

/// True for a field of which nothing but its presence may be shown.
bool is_hidden(const google::protobuf::FieldDescriptor& field);

/// The text on one line: control characters, quotes and backslashes escaped, cut after `limit` bytes with `…`.
std::string one_line(std::string_view text, std::size_t limit = 4096);

/// one_line in double quotes, cut after 128 bytes.
std::string quote(std::string_view text);

}  // namespace ordinald::csi
