/** Which calls may be made again at another node, and after which failures. */

import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Level } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import type { ChinwagError } from "./errors.js";

// What makes the server take a repeat for what it is.
const KEYS = ["requestId", "clientMessageId"];
// Of the time that is left, one attempt takes so much while there is another node to ask.
export const ATTEMPT_SHARE = 2 / 3;

/** Whether a message has a field of that name. */
export function hasField(message: DescMessage, localName: string): boolean {
  return message.fields.some((field) => field.localName === localName);
}

/**
 * Whether a call may be made twice: it only reads, or it has an id by which the server knows a
 * repeat.
 */
export function isRepeatable(method: DescMethod): boolean {
  const { input, idempotency } = method;
  return idempotency !== Level.IDEMPOTENCY_UNKNOWN || KEYS.some((key) => hasField(input, key));
}

/**
 * Whether the server itself says that it did nothing: it refused, with a reason. A call that broke has
 * none, and may have been carried out.
 */
export function hasChangedNothing(error: ChinwagError): boolean {
  return error.reason !== "" && error.code !== Code.DeadlineExceeded;
}

/**
 * Whether the fault is the node's, so that another node may do better: it cannot be reached, does not
 * answer, or shuts down.
 */
export function isAway(error: ChinwagError): boolean {
  if (error.code === Code.Unavailable) return error.reason === "" || error.reason === "DRAINING";
  return error.code === Code.DeadlineExceeded && error.reason === "";
}
