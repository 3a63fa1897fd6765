/**
 * Takes out of the generated descriptors what a client never reads: validation rules, HTTP mappings and
 * access options. They are more than half of what a browser would load.
 *
 * A generated module holds its file's descriptor as base64 in one call, `fileDesc("...", [imports])`. It
 * becomes a string of the bytes themselves: in base64 the same name looks different at each of three
 * places, and gzip does not find it again.
 */

import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";

const CALL = /fileDesc\("([^"]+)"(?:, \[([^\]]*)\])?\)/;
// Files that hold nothing but options.
const OPTIONS = ["file_buf_validate_validate", "file_google_api_annotations", "file_chinwag_common_v1_options"];

function slimMessage(message) {
  const isMapEntry = message.options?.mapEntry;
  if (!isMapEntry) delete message.options;
  for (const field of message.field) {
    const { options } = field;
    // Whether numbers are packed is part of the wire's form; nothing else in options is.
    if (options?.packed === undefined) delete field.options;
    else delete options.$unknown;
  }
  for (const oneof of message.oneofDecl) delete oneof.options;
  for (const nested of message.nestedType) slimMessage(nested);
  for (const each of message.enumType) slimEnum(each);
}

function slimEnum(each) {
  delete each.options;
  for (const value of each.value) delete value.options;
}

function slimFile(text) {
  const file = fromBinary(FileDescriptorProtoSchema, base64Decode(text));
  delete file.options;
  delete file.sourceCodeInfo;
  file.messageType.forEach(slimMessage);
  file.enumType.forEach(slimEnum);
  for (const service of file.service) {
    delete service.options;
    // Of a method's options its idempotency stays: by it the client knows which calls may be repeated.
    for (const method of service.method) delete method.options?.$unknown;
  }
  return literal(toBinary(FileDescriptorProtoSchema, file));
}

/** A JavaScript string with a character for each byte. */
function literal(bytes) {
  let text = "";
  for (const byte of bytes) {
    const char = String.fromCharCode(byte);
    if (char === '"' || char === "\\") text += `\\${char}`;
    else if (byte >= 0x20 && byte < 0x7f) text += char;
    else text += `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return `"${text}"`;
}

/** Slims every generated module below a folder. */
export async function slim(folder) {
  for (const entry of await readdir(folder, { recursive: true })) {
    if (!entry.endsWith("_pb.js")) continue;
    const path = join(folder, entry);
    const source = await readFile(path, "utf8");
    const made = source.replace(CALL, (_, text, imports = "") => {
      const kept = imports.split(", ").filter((name) => name !== "" && !OPTIONS.includes(name));
      return `fileDesc(/*@__PURE__*/ btoa(${slimFile(text)}), [${kept.join(", ")}])`;
    });
    // The imports that nothing uses any more.
    const lines = made.split("\n").filter((line) => {
      const name = /^import \{ (\w+) \} from/.exec(line)?.[1];
      return name === undefined || !OPTIONS.includes(name);
    });
    await writeFile(path, lines.join("\n"));
  }
}
