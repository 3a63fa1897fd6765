/** IndexedDB's requests and transactions as promises, and the schema of a client store in it. */

import { StoreMismatch } from "./errors.js";

export const VERSION = 1;
const TABLES = ["facts", "cursors", "sends", "messages", "channels", "states"] as const;

/** The object stores of a client store. */
export type Table = (typeof TABLES)[number];

/** What a request gives. */
export function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => {
      resolve(request.result);
    };
    request.onerror = () => {
      reject(request.error ?? new Error("IndexedDB failed"));
    };
  });
}

/** Resolves when a transaction is committed. */
export function committed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => {
      resolve();
    };
    transaction.onabort = () => {
      reject(transaction.error ?? new Error("the IndexedDB transaction was aborted"));
    };
  });
}

/**
 * Opens a store's database, and makes it if there is none.
 *
 * @throws StoreMismatch It was written by a newer version of chinwag.
 */
export async function openDatabase(factory: IDBFactory, name: string): Promise<IDBDatabase> {
  const request = factory.open(name, VERSION);
  request.onupgradeneeded = () => {
    makeTables(request.result);
  };
  try {
    const database = await answer(request);
    // Somebody deletes the database or upgrades it: nobody has to wait for this page.
    database.onversionchange = () => {
      database.close();
    };
    return database;
  } catch (error) {
    if (error instanceof Error && error.name === "VersionError") {
      throw new StoreMismatch(`${name} was written by a newer chinwag than this one (${VERSION})`);
    }
    throw error;
  }
}

function makeTables(database: IDBDatabase): void {
  database.createObjectStore("facts");
  database.createObjectStore("cursors");
  const sends = database.createObjectStore("sends", { keyPath: "number" });
  sends.createIndex("id", "clientMessageId", { unique: true });
  const messages = database.createObjectStore("messages", { keyPath: ["channelId", "id"] });
  messages.createIndex("timeline", ["channelId", "threadRootId", "id"]);
  database.createObjectStore("channels");
  database.createObjectStore("states");
}

/** Does work in one transaction, whole or not at all. */
export async function inTransaction<T>(
  database: IDBDatabase,
  tables: readonly Table[],
  work: (transaction: IDBTransaction) => Promise<T> | T,
): Promise<T> {
  const transaction = database.transaction(tables, "readwrite");
  const done = committed(transaction);
  // Somebody always looks at it, also if `work` throws first.
  done.catch(() => undefined);
  try {
    const result = await work(transaction);
    await done;
    return result;
  } catch (error) {
    try {
      transaction.abort();
    } catch {
      // It has ended already: its own error, or a commit that needs no undoing.
    }
    throw error;
  }
}

/** Reads in one transaction. */
export async function reading<T>(
  database: IDBDatabase,
  tables: readonly Table[],
  work: (transaction: IDBTransaction) => Promise<T>,
): Promise<T> {
  return await work(database.transaction(tables, "readonly"));
}
