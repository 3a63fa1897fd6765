/** The account's own calls: profile, people, devices, privacy. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Calls } from "./calls.js";
import { pathsOf } from "./channel.js";
import { ChinwagError } from "./errors.js";
import {
  AccountService,
  type GetMeResponse,
  type GetUserResponse,
} from "./gen/chinwag/account/v1/account_service_pb.js";
import {
  type Block,
  type Device,
  type Friend,
  type FriendRequest,
  FriendRequestDirection,
  type PrivacySettings,
  type PrivacySettingsSchema,
  type Relation,
  type User,
} from "./gen/chinwag/account/v1/user_pb.js";

const PAGE = 200;
const BATCH = 1000;
const { method } = AccountService;

/** `AccountService` for the user of a session. Every promise may be rejected by `ChinwagError`. */
export class Account {
  constructor(private readonly calls: Calls) {}

  // --- oneself ---

  /** The own profile, device and privacy settings. */
  me(): Promise<GetMeResponse> {
    return this.calls.call(method.getMe, {});
  }

  /** Changes what is given. @throws AlreadyExists USERNAME_TAKEN. */
  async updateProfile(profile: {
    username?: string;
    displayName?: string;
    bio?: string;
    avatarUrl?: string;
    metadata?: Record<string, string>;
  }): Promise<User | undefined> {
    const request = { ...profile, updateMask: { paths: pathsOf(profile) } };
    return (await this.calls.call(method.updateProfile, request)).user;
  }

  /**
   * Changes the password and logs the other devices out.
   *
   * @returns How many were logged out.
   * @throws Unauthenticated CREDENTIALS_INVALID: the current one is wrong.
   */
  async changePassword(
    currentPassword: string,
    newPassword: string,
    options: { keepOtherDevices?: boolean } = {},
  ): Promise<number> {
    const request = { currentPassword, newPassword, ...options };
    return (await this.calls.call(method.changePassword, request)).revokedDeviceCount;
  }

  /** Ends this session; its tokens are void. A session that has ended is no error. */
  async logOut(): Promise<void> {
    try {
      await this.calls.call(method.logOut, {});
    } catch (error) {
      if (!(error instanceof ChinwagError) || error.reason !== "SESSION_REVOKED") throw error;
    }
  }

  /** Deletes the account for good. */
  async delete(password: string): Promise<void> {
    await this.calls.call(method.deleteAccount, { password });
  }

  /** Who may do what with the user. */
  async privacy(): Promise<PrivacySettings | undefined> {
    return (await this.calls.call(method.getPrivacySettings, {})).settings;
  }

  /** Changes those settings that are set. */
  async updatePrivacy(
    settings: MessageInitShape<typeof PrivacySettingsSchema>,
  ): Promise<PrivacySettings | undefined> {
    return (await this.calls.call(method.updatePrivacySettings, { settings })).settings;
  }

  // --- other users ---

  /** A profile and what that user is to the caller. */
  user(userId: string): Promise<GetUserResponse> {
    return this.calls.call(method.getUser, { userId });
  }

  /** Many profiles; ids that do not exist are left out. */
  async users(userIds: Iterable<string>): Promise<User[]> {
    const unique = [...new Set(userIds)];
    const found: User[] = [];
    for (let start = 0; start < unique.length; start += BATCH) {
      const request = { userIds: unique.slice(start, start + BATCH) };
      found.push(...(await this.calls.call(method.getUsers, request)).users);
    }
    return found;
  }

  /** The user with exactly this username. @throws NotFound None, or one who does not want to be found. */
  async find(username: string): Promise<User | undefined> {
    return (await this.calls.call(method.findUser, { username })).user;
  }

  // --- devices ---

  /** The logins that have not ended, newest first. */
  async *devices(): AsyncGenerator<Device, void, undefined> {
    yield* paged(async (page) => {
      const answer = await this.calls.call(method.listDevices, page);
      return [answer.devices, answer.nextPageToken];
    });
  }

  /** Ends one of the user's logins. */
  async revokeDevice(deviceId: string): Promise<void> {
    await this.calls.call(method.revokeDevice, { deviceId });
  }

  // --- friends ---

  /** Asks for friendship; what the two are now: asked, or friends if the other had asked before. */
  async requestFriend(userId: string, message = ""): Promise<Relation> {
    return (await this.calls.call(method.requestFriend, { userId, message })).relation;
  }

  /** Accepts a request. */
  async acceptFriend(userId: string): Promise<Friend | undefined> {
    return (await this.calls.call(method.acceptFriend, { userId })).friend;
  }

  /** Declines a request. */
  async declineFriend(userId: string): Promise<void> {
    await this.calls.call(method.declineFriend, { userId });
  }

  /** Ends a friendship, or takes an own request back. */
  async removeFriend(userId: string): Promise<void> {
    await this.calls.call(method.removeFriend, { userId });
  }

  /** The user's friends, newest first. */
  async *friends(): AsyncGenerator<Friend, void, undefined> {
    yield* paged(async (page) => {
      const answer = await this.calls.call(method.listFriends, page);
      return [answer.friends, answer.nextPageToken];
    });
  }

  /** Open requests from and to the user, newest first. */
  async *friendRequests(
    direction: FriendRequestDirection = FriendRequestDirection.UNSPECIFIED,
  ): AsyncGenerator<FriendRequest, void, undefined> {
    yield* paged(async (page) => {
      const answer = await this.calls.call(method.listFriendRequests, { ...page, direction });
      return [answer.requests, answer.nextPageToken];
    });
  }

  // --- blocks ---

  /** Blocks a user. */
  async block(userId: string): Promise<Block | undefined> {
    return (await this.calls.call(method.blockUser, { userId })).block;
  }

  /** Takes a block back. */
  async unblock(userId: string): Promise<void> {
    await this.calls.call(method.unblockUser, { userId });
  }

  /** Whom the user has blocked, newest first. */
  async *blocks(): AsyncGenerator<Block, void, undefined> {
    yield* paged(async (page) => {
      const answer = await this.calls.call(method.listBlocks, page);
      return [answer.blocks, answer.nextPageToken];
    });
  }
}

async function* paged<T>(
  read: (page: { pageSize: number; pageToken: string }) => Promise<[T[], string]>,
): AsyncGenerator<T, void, undefined> {
  let pageToken = "";
  do {
    const [found, next] = await read({ pageSize: PAGE, pageToken });
    yield* found;
    pageToken = next;
  } while (pageToken !== "");
}
