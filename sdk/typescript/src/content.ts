/** What people write, as the contract wants it. */

import { type MessageInitShape, clone, create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { InvalidArgument } from "./errors.js";
import { type MessageContent, MessageContentSchema } from "./gen/chinwag/chat/v1/message_pb.js";

/** A text, or a whole content. */
export type Content = string | MessageInitShape<typeof MessageContentSchema>;

/**
 * A content with mentions and metadata added; the argument stays as it is.
 *
 * @throws InvalidArgument Something in it cannot be written as UTF-8 (a lone surrogate), or is no text.
 */
export function contentOf(
  content: Content,
  mentions: Iterable<string> = [],
  metadata: Record<string, string> = {},
): MessageContent {
  const given = typeof content === "string" ? { text: content } : content;
  try {
    const made = create(MessageContentSchema, given);
    const whole = {
      ...made,
      mentionedUserIds: [...made.mentionedUserIds, ...mentions],
      metadata: { ...made.metadata, ...metadata },
    };
    // A copy, in which each field is looked at.
    return clone(MessageContentSchema, whole);
  } catch (error) {
    throw new InvalidArgument(`not valid as text: ${String(error)}`, {
      reason: "INVALID_FIELD",
      code: Code.InvalidArgument,
      fields: { content: "cannot be written as UTF-8" },
      cause: error,
    });
  }
}
