/** Typed errors: what the server refused, with a reason to act on, and what failed here. */

import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { toMs } from "./times.js";
import {
  type BadRequest,
  BadRequestSchema,
  type ErrorInfo,
  ErrorInfoSchema,
  type RetryInfo,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";

// Limits that pass by themselves; the other causes of RESOURCE_EXHAUSTED do not.
const PASSING_LIMITS = new Set(["RATE_LIMITED", "OVERLOADED", "LOGIN_THROTTLED"]);

/** What an error says beside its text. */
export interface ErrorFacts {
  /** The name of an ErrorReason without its prefix; empty: the server gave none. */
  reason?: string;
  /** The gRPC status code's number. */
  code?: number;
  /** Milliseconds after which the same call may succeed. */
  retryAfterMs?: number | undefined;
  /** What is wrong, by field path. */
  fields?: Record<string, string>;
  /** Facts of the reason, such as {message_id: "7"}. */
  metadata?: Record<string, string>;
  cause?: unknown;
}

/** A call was refused or failed. */
export class ChinwagError extends Error {
  override readonly name: string = "ChinwagError";
  readonly reason: string;
  readonly code: number;
  readonly retryAfterMs: number | undefined;
  readonly fields: Record<string, string>;
  readonly metadata: Record<string, string>;

  constructor(message: string, facts: ErrorFacts = {}) {
    super(facts.reason ? `${facts.reason}: ${message}` : message, { cause: facts.cause });
    this.reason = facts.reason ?? "";
    this.code = facts.code ?? Code.Unknown;
    this.retryAfterMs = facts.retryAfterMs;
    this.fields = facts.fields ?? {};
    this.metadata = facts.metadata ?? {};
  }

  /** Whether the same call may succeed later, unchanged. */
  get isTemporary(): boolean {
    if (this.code === Code.ResourceExhausted) {
      return this.retryAfterMs !== undefined || PASSING_LIMITS.has(this.reason);
    }
    return (
      this.code === Code.Unavailable ||
      this.code === Code.DeadlineExceeded ||
      this.code === Code.Aborted
    );
  }
}

/** No valid token: log in again. */
export class Unauthenticated extends ChinwagError {
  override readonly name = "Unauthenticated";
}
/** The caller may not do this. */
export class PermissionDenied extends ChinwagError {
  override readonly name = "PermissionDenied";
}
/** No such thing, or none that the caller may know of. */
export class NotFound extends ChinwagError {
  override readonly name = "NotFound";
}
/** The request breaks a rule; `fields` says which. */
export class InvalidArgument extends ChinwagError {
  override readonly name = "InvalidArgument";
}
/** The state of the thing does not allow it. */
export class FailedPrecondition extends ChinwagError {
  override readonly name = "FailedPrecondition";
}
/** There is one already, or the id was used with other content. */
export class AlreadyExists extends ChinwagError {
  override readonly name = "AlreadyExists";
}
/** A limit; `retryAfterMs` is set where waiting helps. */
export class LimitExceeded extends ChinwagError {
  override readonly name = "LimitExceeded";
}
/** The server cannot be reached or cannot serve now. */
export class Unavailable extends ChinwagError {
  override readonly name = "Unavailable";
}
/** A message could not be sent for 7 days and was given up. */
export class SendExpired extends ChinwagError {
  override readonly name = "SendExpired";
}
/** Too many messages wait to be sent: wait for some of them. */
export class OutboxFull extends ChinwagError {
  override readonly name = "OutboxFull";
}
/** Another stream of the same device took over: this client does not connect again. */
export class Replaced extends ChinwagError {
  override readonly name = "Replaced";
}
/** The client was closed, or closed for good by the server. */
export class ClientClosed extends ChinwagError {
  override readonly name = "ClientClosed";
}
/** Without TLS a token would cross the network in the clear: use https, or pass `insecure`. */
export class InsecureAddress extends ChinwagError {
  override readonly name = "InsecureAddress";
}
/** A client store holds another user's data, or was written by a newer version. */
export class StoreMismatch extends ChinwagError {
  override readonly name = "StoreMismatch";
}

type ErrorClass = new (message: string, facts: ErrorFacts) => ChinwagError;

function classOf(code: number): ErrorClass {
  switch (code) {
    case Code.Unauthenticated:
      return Unauthenticated;
    case Code.PermissionDenied:
      return PermissionDenied;
    case Code.NotFound:
      return NotFound;
    case Code.InvalidArgument:
    case Code.OutOfRange:
      return InvalidArgument;
    case Code.FailedPrecondition:
      return FailedPrecondition;
    case Code.AlreadyExists:
      return AlreadyExists;
    case Code.ResourceExhausted:
      return LimitExceeded;
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return Unavailable;
    default:
      return ChinwagError;
  }
}

function withDetails(facts: ErrorFacts, info?: ErrorInfo, retry?: RetryInfo, bad?: BadRequest): ErrorFacts {
  if (info !== undefined) {
    facts.reason = info.reason;
    facts.metadata = { ...info.metadata };
  }
  if (retry !== undefined) facts.retryAfterMs = toMs(retry.retryDelay);
  if (bad !== undefined) {
    facts.fields = Object.fromEntries(bad.fieldViolations.map((v) => [v.field, v.description]));
  }
  return facts;
}

/** A google.rpc.Status as an error. */
export function fromStatus(status: Status): ChinwagError {
  const found: Record<string, Uint8Array> = {};
  for (const detail of status.details) {
    found[detail.typeUrl.slice(detail.typeUrl.lastIndexOf("/") + 1)] = detail.value;
  }
  const info = found[ErrorInfoSchema.typeName];
  const retry = found[RetryInfoSchema.typeName];
  const bad = found[BadRequestSchema.typeName];
  const facts = withDetails(
    { code: status.code },
    info && fromBinary(ErrorInfoSchema, info),
    retry && fromBinary(RetryInfoSchema, retry),
    bad && fromBinary(BadRequestSchema, bad),
  );
  return new (classOf(status.code))(status.message, facts);
}

/** Whatever a transport threw, as an error. */
export function fromTransport(thrown: unknown): ChinwagError {
  if (thrown instanceof ChinwagError) return thrown;
  const error = ConnectError.from(thrown);
  let code: number = error.code;
  // fetch says of everything between a name that does not resolve and a connection that breaks
  // only "TypeError"; a body that ends early comes as a plain string or without a trailer.
  const byNetwork = error.cause instanceof TypeError || typeof thrown === "string";
  if (error.details.length === 0 && (byNetwork || error.rawMessage === "missing trailer")) {
    code = Code.Unavailable;
  }
  const facts = withDetails(
    { code, cause: thrown },
    error.findDetails(ErrorInfoSchema)[0],
    error.findDetails(RetryInfoSchema)[0],
    error.findDetails(BadRequestSchema)[0],
  );
  return new (classOf(code))(error.rawMessage, facts);
}
