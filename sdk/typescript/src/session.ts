/** A login: its tokens, kept fresh, and written down by the application. */

import { type Addresses, parseAddresses } from "./addresses.js";
import { Calls, type Credential } from "./calls.js";
import { type Clock, systemClock } from "./clock.js";
import { Unauthenticated } from "./errors.js";
import { toMs } from "./times.js";
import { type OpenTransport, webTransport } from "./transports.js";
import { openRoutes } from "./routes.js";
import { AccountService } from "./gen/chinwag/account/v1/account_service_pb.js";
import { Platform, type Tokens } from "./gen/chinwag/account/v1/user_pb.js";
import type { Transport } from "@connectrpc/connect";
import { CLIENT } from "./version.js";

// An access token is refreshed this long before its end, or at 4/5 of its life if that is later.
export const REFRESH_BEFORE_MS = 60_000;
// By a clock that is wrong every token looks ended: after a refresh one is used for so long anyway.
export const TRUST_MS = 30_000;

/** A session as it is stored. */
export interface SessionData {
  readonly userId: string;
  readonly deviceId: string;
  readonly username: string;
  readonly address: string;
  readonly accessToken: string;
  readonly accessExpireTimeMs: number;
  readonly refreshToken: string;
  readonly refreshExpireTimeMs: number;
}

const TEXTS = ["userId", "deviceId", "accessToken"] as const;

/** One login of one program: a device of its own. Do not use one in two programs or tabs at once. */
export class Session {
  readonly userId: string;
  readonly deviceId: string;
  username: string;
  /** Where it was opened. */
  address: string;
  accessToken: string;
  /** Since 1970; 0: not known. */
  accessExpireTimeMs: number;
  refreshToken: string;
  refreshExpireTimeMs: number;
  /**
   * Gives new tokens where there is no refresh token, such as a call to the team's backend, which uses
   * IssueUserToken.
   */
  source: (() => Promise<Tokens>) | undefined;
  /** Called with every new pair of tokens, before one is used: keep it. */
  onTokens: ((session: Session) => void | Promise<void>) | undefined;

  private constructor(data: SessionData) {
    this.userId = data.userId;
    this.deviceId = data.deviceId;
    this.username = data.username;
    this.address = data.address;
    this.accessToken = data.accessToken;
    this.accessExpireTimeMs = data.accessExpireTimeMs;
    this.refreshToken = data.refreshToken;
    this.refreshExpireTimeMs = data.refreshExpireTimeMs;
  }

  /** A session of tokens that the server gave. */
  static of(tokens: Tokens, more: { username?: string; address?: string } = {}): Session {
    return new Session({
      userId: tokens.userId,
      deviceId: tokens.deviceId,
      username: more.username ?? "",
      address: more.address ?? "",
      accessToken: tokens.accessToken,
      accessExpireTimeMs: toMs(tokens.accessExpireTime),
      refreshToken: tokens.refreshToken,
      refreshExpireTimeMs: toMs(tokens.refreshExpireTime),
    });
  }

  /** Reads what `toJSON` gave. @throws TypeError It is no session. */
  static fromJSON(data: SessionData | string): Session {
    let found: Partial<SessionData> | null;
    try {
      found = typeof data === "string" ? (JSON.parse(data) as Partial<SessionData> | null) : data;
    } catch {
      found = null;
    }
    const isOne = typeof found === "object" && TEXTS.every((name) => typeof found?.[name] === "string");
    if (found === null || !isOne) throw new TypeError("this is no chinwag session: log in again");
    return new Session({
      userId: "",
      deviceId: "",
      username: "",
      address: "",
      accessToken: "",
      accessExpireTimeMs: 0,
      refreshToken: "",
      refreshExpireTimeMs: 0,
      ...found,
    });
  }

  /** The session for storage: it holds the tokens. */
  toJSON(): SessionData {
    const { userId, deviceId, username, address } = this;
    const { accessToken, accessExpireTimeMs, refreshToken, refreshExpireTimeMs } = this;
    return {
      userId,
      deviceId,
      username,
      address,
      accessToken,
      accessExpireTimeMs,
      refreshToken,
      refreshExpireTimeMs,
    };
  }

  /** Takes new tokens. */
  async take(tokens: Tokens): Promise<void> {
    this.accessToken = tokens.accessToken;
    this.accessExpireTimeMs = toMs(tokens.accessExpireTime);
    if (tokens.refreshToken !== "") {
      this.refreshToken = tokens.refreshToken;
      this.refreshExpireTimeMs = toMs(tokens.refreshExpireTime);
    }
    await this.onTokens?.(this);
  }
}

/** The `Credential` of a session: refreshes its tokens before they end, one refresh at a time. */
export class SessionCredential implements Credential {
  private readonly calls: Calls;
  private refreshing: Promise<void> | undefined;
  private refreshedAt: number | undefined;
  private lifeMs = 0;

  constructor(
    private readonly session: Session,
    transport: Transport,
    private readonly clock: Clock = systemClock,
  ) {
    this.calls = new Calls(transport);
  }

  async token(): Promise<string> {
    if (this.isEnding()) await this.refresh();
    return this.session.accessToken;
  }

  async rejected(token: string): Promise<void> {
    // If another call has refreshed it meanwhile, the next attempt has a new one already.
    if (token === this.session.accessToken) await this.refresh();
  }

  private isEnding(): boolean {
    const end = this.session.accessExpireTimeMs;
    if (end === 0) return false;
    const now = this.clock.monotonic();
    if (this.refreshedAt !== undefined && now - this.refreshedAt < TRUST_MS) return false;
    const margin = this.lifeMs > 0 ? Math.min(REFRESH_BEFORE_MS, this.lifeMs / 5) : REFRESH_BEFORE_MS;
    return end - this.clock.time() < margin;
  }

  /**
   * Refreshes, or waits for the refresh that is under way. It goes on if the caller is gone: a refresh
   * token must not be used up and its answer thrown away.
   */
  private refresh(): Promise<void> {
    this.refreshing ??= this.doRefresh().finally(() => {
      this.refreshing = undefined;
    });
    return this.refreshing;
  }

  private async doRefresh(): Promise<void> {
    const { session } = this;
    if (session.source !== undefined) {
      await this.take(await session.source());
      return;
    }
    if (session.refreshToken === "") {
      throw new Unauthenticated(
        "the access token has ended and there is no refresh token: log in again",
        { reason: "TOKEN_EXPIRED", code: 16 },
      );
    }
    const { refreshToken, deviceId } = session;
    const request = { refreshToken, deviceId };
    const answer = await this.calls.call(AccountService.method.refreshToken, request);
    if (answer.tokens !== undefined) await this.take(answer.tokens);
  }

  private async take(tokens: Tokens): Promise<void> {
    this.refreshedAt = this.clock.monotonic();
    await this.session.take(tokens);
    this.lifeMs = Math.max(this.session.accessExpireTimeMs - this.clock.time(), 1000);
  }
}

// --- getting one ---

/** How a login is made. */
export interface LogInOptions {
  /** For the user to know this login by. */
  deviceName?: string;
  platform?: Platform;
  /** Allows plain http to any address. */
  insecure?: boolean;
  /** Default: `webTransport()`. */
  transport?: OpenTransport;
}

/** How an account is made. */
export interface SignUpOptions extends LogInOptions {
  /** Empty: the username. */
  displayName?: string;
}

const deviceOf = ({ deviceName = "", platform = Platform.UNSPECIFIED }: LogInOptions) => ({
  name: deviceName,
  platform,
  client: CLIENT,
});

async function opened(
  addresses: Addresses,
  username: string,
  options: LogInOptions,
  ask: (calls: Calls) => Promise<{ tokens?: Tokens | undefined }>,
): Promise<Session> {
  const routes = openRoutes(addresses, options.transport ?? webTransport(), options.insecure ?? false);
  try {
    const { tokens } = await ask(new Calls(routes));
    if (tokens === undefined) throw new Unauthenticated("the server gave no tokens", { code: 16 });
    return Session.of(tokens, { username, address: parseAddresses(addresses).join(",") });
  } finally {
    routes.close();
  }
}

/**
 * Makes an account and logs this program in.
 *
 * @param username 3 to 32 of a-z, 0-9, "_", "." and "-".
 * @param password 8 to 256 characters.
 * @throws AlreadyExists USERNAME_TAKEN.
 * @throws InvalidArgument `fields` says what is wrong.
 */
export async function signUp(
  address: Addresses,
  username: string,
  password: string,
  options: SignUpOptions = {},
): Promise<Session> {
  const displayName = options.displayName ?? "";
  const request = { username, password, displayName, device: deviceOf(options) };
  return await opened(address, username, options, (calls) =>
    calls.call(AccountService.method.signUp, request),
  );
}

/**
 * Opens a session for this program: a new device.
 *
 * @throws Unauthenticated CREDENTIALS_INVALID: wrong name or password.
 * @throws LimitExceeded LOGIN_THROTTLED; `retryAfterMs` says for how long.
 */
export async function logIn(
  address: Addresses,
  username: string,
  password: string,
  options: LogInOptions = {},
): Promise<Session> {
  const request = { username, password, device: deviceOf(options) };
  return await opened(address, username, options, (calls) =>
    calls.call(AccountService.method.logIn, request),
  );
}
