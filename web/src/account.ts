/** Who is signed in in this tab: a device of its own, kept over reloads. */

import { signal } from "@preact/signals";
import { type Client, connect, IndexedDbStore, logIn, type Session, signUp, type Slot, takeSlot } from "chinwag";
import { Chat } from "./chat.js";
import { Known } from "./known.js";

const NAME = "chinwag";

/** "starting" until it is known whether somebody is signed in. */
export type Stage = "starting" | "signed out" | "signed in" | "failed";

export class Account {
  readonly stage = signal<Stage>("starting");
  readonly chat = signal<Chat | undefined>(undefined);
  /** Why nobody is signed in any more, or why the page cannot start. */
  readonly reason = signal("");
  private slot: Slot | undefined;
  private client: Client | undefined;

  /** Goes on with the session of this tab, if there is one. */
  async start(): Promise<void> {
    try {
      this.slot = await takeSlot(NAME);
      const session = this.slot.session;
      if (session === undefined) this.stage.value = "signed out";
      else await this.enter(session);
    } catch (error) {
      this.reason.value = error instanceof Error ? error.message : String(error);
      this.stage.value = "failed";
    }
  }

  /** @throws ChinwagError The name is taken, the password is wrong, the server is away. */
  async signIn(name: string, password: string, isNew: boolean): Promise<void> {
    const options = { deviceName: "Web page" };
    const address = location.origin;
    const session = isNew
      ? await signUp(address, name, password, options)
      : await logIn(address, name, password, options);
    await this.enter(session);
  }

  /** Signs this tab out: its session ends, and what it has stored is deleted. */
  async signOut(): Promise<void> {
    const { client } = this;
    this.client = undefined;
    this.chat.value = undefined;
    this.stage.value = "signed out";
    this.reason.value = "";
    this.slot?.forgetSession();
    try {
      await client?.account.logOut();
    } catch {
      // Without a server the tokens are forgotten all the same.
    }
    await client?.close();
    await this.slot?.forget();
    if (client !== undefined) Known.forget(client.userId);
  }

  private async enter(session: Session): Promise<void> {
    const { slot } = this;
    if (slot === undefined) return;
    slot.keep(session);
    const client = await connect("", session, {
      store: new IndexedDbStore(slot.storeName),
      deliveredMarks: true,
    });
    this.client = client;
    this.reason.value = "";
    this.chat.value = new Chat(client, (error) => {
      if (this.client !== client || error === undefined) return;
      // The session was ended elsewhere: nothing more can be sent from here.
      this.client = undefined;
      this.chat.value = undefined;
      this.reason.value = error.message;
      this.stage.value = "signed out";
      void slot.forget();
    });
    this.stage.value = "signed in";
  }
}
