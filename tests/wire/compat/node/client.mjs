// A client of compat.proto by @grpc/grpc-js: `node client.mjs TARGET`. Prints a line of JSON a check.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const proto = fileURLToPath(new URL("../proto/compat/v1/compat.proto", import.meta.url));
readFileSync(proto); // a clear error if it is not there
const { compat } = grpc.loadPackageDefinition(loader.loadSync(proto, { longs: Number, keepCase: true, defaults: true }));
const client = new compat.v1.Compat(process.argv[2], grpc.credentials.createInsecure());
const TEXT = "what went wrong: 50 % and ünïcode\n";

const deadline = (ms = 20_000) => ({ deadline: Date.now() + ms });
const unary = (name, request, metadata = new grpc.Metadata(), options = deadline()) =>
  new Promise((resolve, reject) => {
    let head, trailer;
    const call = client[name](request, metadata, options, (error, answer) => {
      // The status event comes after the answer.
      if (error) reject(error);
      else setImmediate(() => resolve({ answer, head, trailer }));
    });
    call.on("metadata", (found) => (head = found));
    call.on("status", (status) => (trailer = status.metadata));
  });
const all = async (stream) => {
  const answers = [];
  for await (const answer of stream) answers.push(answer);
  return answers;
};
const equal = (got, wanted) => {
  if (JSON.stringify(got) !== JSON.stringify(wanted))
    throw new Error(`got ${JSON.stringify(got)?.slice(0, 300)}, wanted ${JSON.stringify(wanted)}`);
};
const cancelled = async (key) =>
  equal((await unary("Fate", { key, wait_ms: 5000, cancelled: true })).answer.cancelled, true);

const checks = {
  async unary() {
    for (const size of [0, 1, 100, 16384, 65536, 1 << 20, (4 << 20) - 64]) {
      const { answer } = await unary("Echo", { payload: Buffer.alloc(size) });
      equal(answer.payload.length, size);
    }
  },
  async server_stream() {
    const answers = await all(client.Repeat({ count: 300, size: 20000 }, deadline()));
    equal(answers.map((answer) => answer.number ?? 0), [...Array(300).keys()]);
  },
  async client_stream() {
    const answer = await new Promise((resolve, reject) => {
      const call = client.Collect(deadline(), (error, got) => (error ? reject(error) : resolve(got)));
      for (let number = 0; number < 300; number++) call.write({ payload: Buffer.alloc(10000) });
      call.end();
    });
    equal([answer.messages, answer.bytes], [300, 3000000]);
  },
  async half_close() {
    const call = client.Chat(deadline());
    for (let number = 0; number < 20; number++) call.write({ payload: Buffer.from([number]) });
    call.end();
    const answers = await all(call);
    equal(answers.slice(0, -1).map((answer) => answer.payload[0]), [...Array(20).keys()]);
    equal(answers.at(-1).end, true);
  },
  async metadata() {
    const metadata = new grpc.Metadata();
    metadata.set("echo-initial-a", "x y");
    metadata.set("echo-initial-b-bin", Buffer.from([0, 1, 254, 255]));
    metadata.add("echo-trailing-a", "1");
    metadata.add("echo-trailing-a", "2");
    const { head, trailer } = await unary("Echo", {}, metadata);
    equal(head.get("echo-initial-a"), ["x y"]);
    equal(head.get("echo-initial-b-bin").map((value) => [...value]), [[0, 1, 254, 255]]);
    // Node joins fields of one name.
    equal(trailer.get("echo-trailing-a").join(",").split(/, ?/), ["1", "2"]);
  },
  async status() {
    for (let code = 1; code <= 16; code++) {
      const error = await unary("Fail", { code, message: TEXT, detail: "why" }).then(
        () => null,
        (found) => found,
      );
      equal([error?.code, error?.details], [code, TEXT]);
      equal(error.metadata.get("grpc-status-details-bin").length, 1);
    }
  },
  async deadline() {
    const late = await unary("Sleep", { key: "node-deadline", ms: 10000 }, undefined, deadline(300)).then(
      () => null,
      (error) => error,
    );
    equal(late?.code, grpc.status.DEADLINE_EXCEEDED);
    await cancelled("node-deadline");
  },
  async cancel() {
    const call = client.SleepStream({ key: "node-cancel", ms: 10000 }, deadline());
    call.on("error", () => {});
    await new Promise((resolve) => call.once("data", resolve));
    call.cancel();
    await cancelled("node-cancel");
  },
  async many_at_once() {
    const calls = [...Array(200).keys()].map((number) =>
      unary("Echo", { payload: Buffer.from([number]), delay_ms: number % 7 }),
    );
    equal((await Promise.all(calls)).map(({ answer }) => answer.payload[0]), [...Array(200).keys()]);
  },
};

for (const [name, check] of Object.entries(checks)) {
  let detail = "";
  try {
    await check();
  } catch (error) {
    detail = String(error.stack ?? error);
  }
  console.log(JSON.stringify({ check: name, ok: !detail, detail }));
}
client.close();
