import { afterAll, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { detectFormat } from "./detect-format.ts";
import { openAzure } from "./read-azure.ts";
import { openBurstGpt } from "./read-burstgpt.ts";
import { openJsonl } from "./read-jsonl.ts";
import { openMooncake } from "./read-mooncake.ts";
import { openQwen } from "./read-qwen.ts";
import type { WorkloadRequest } from "./workload.ts";

const files = new TempFiles();
afterAll(() => files.remove());

const MOONCAKE = `{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp":27000,"input_length":512,"output_length":52,"hash_ids":[0]}
`;
const AZURE = `TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 23:59:59.9799600,4808,10
2023-11-17 00:00:00.0319600,3180,8`;
const BURSTGPT = `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,0,1087,API log
118,GPT-4,417,276,693,Conversation log
`;
const QWEN = `{"chat_id":1,"parent_chat_id":-1,"timestamp":0.5,"input_length":20,"output_length":3,"type":"text","turn":1,"hash_ids":[4,5]}
{"chat_id":2,"parent_chat_id":1,"timestamp":1.25,"input_length":40,"output_length":3,"type":"search","turn":2,"hash_ids":[4,6,7]}
{"chat_id":3,"parent_chat_id":2,"timestamp":9,"input_length":48,"output_length":3,"type":"text","turn":3,"hash_ids":[4,6,8]}
`;
const OWN = `{"id":"a","arrivalMs":0,"inputTokens":40,"outputTokens":2,"blockTokens":16,"blocks":[1,2],"scope":"s","sessionId":"x","tenant":"t","priority":2,"kind":"video","encodeMs":12.5}
{"id":"b","arrivalMs":10.25,"inputTokens":1,"outputTokens":1}
`;

const plain = {
  blocks: null,
  sessionId: null,
  tenant: "default",
  priority: 0,
  kind: "text",
  encodeMs: 0,
  wishes: null,
};

describe("a Mooncake trace", () => {
  it("gives lengths, times in milliseconds and ids of 512-token blocks, in either spelling", () => {
    const requests = playWorkload(openMooncake(files.write("m.jsonl", MOONCAKE)));
    expect(requests).toEqual([
      { ...plain, id: "1", arrivalMs: 0, inputTokens: 600, outputTokens: 5, blocks: blocks(512, [0, 1]) },
      { ...plain, id: "2", arrivalMs: 27000, inputTokens: 512, outputTokens: 52, blocks: blocks(512, [0]) },
    ]);
  });

  it("is read the same with keys in another order, more keys, blank lines, CRLF and a byte-order mark", () => {
    const text = `\uFEFF{"hash_ids":[7],"output_length":1,"extra":{"a":[1]},"input_length":3,"timestamp":1.5}\r\n\r\n {"timestamp":2,"input_length":3,"output_length":1,"hash_ids":[8]}`;
    const requests = playWorkload(openMooncake(files.write("odd.jsonl", text)));
    expect(requests.map(({ arrivalMs, blocks }) => [arrivalMs, blocks?.ids])).toEqual([
      [1.5, [7]],
      [2, [8]],
    ]);
    expect(requests.map(({ id }) => id)).toEqual(["1", "3"]);
  });

  it("may be longer than any buffer, and so may its lines", () => {
    const ids = Array.from({ length: 8000 }, (_, index) => 1_000_000 + index);
    const line = (t: number): string =>
      JSON.stringify({ timestamp: t, input_length: 8000 * 512, output_length: 1, hash_ids: ids });
    const text = Array.from({ length: 40 }, (_, t) => (t % 3 === 0 ? line(t) : `${line(t).slice(0, -1)} }`));
    const requests = playWorkload(openMooncake(files.write("long.jsonl", text.join("\n"))));
    expect(requests).toHaveLength(40);
    for (const request of requests) expect(request.blocks?.ids).toEqual(ids);
  });
});

describe("other traces", () => {
  it("of Azure count from the first row and share nothing", () => {
    const requests = playWorkload(openAzure(files.write("a.csv", AZURE)));
    expect(requests).toEqual([
      { ...plain, id: "2", arrivalMs: 0, inputTokens: 4808, outputTokens: 10 },
      { ...plain, id: "3", arrivalMs: 52, inputTokens: 3180, outputTokens: 8 },
    ]);
  });

  it("of Azure in 2024 have a zone", () => {
    const text = `TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,1,2\n2024-05-10 02:00:00+02:00,3,4\n`;
    // The second is the same moment less 9.93 ms.
    expect(() => playWorkload(openAzure(files.write("zone.csv", text)))).toThrow(
      /zone\.csv:3: arrives at -9\.93 ms/,
    );
  });

  it("of BurstGPT name the model, and failed requests are left out or kept as told", () => {
    const path = files.write("b.csv", BURSTGPT);
    expect(playWorkload(openBurstGpt(path))).toEqual([
      { ...plain, id: "2", arrivalMs: 0, inputTokens: 472, outputTokens: 18, kind: "ChatGPT" },
      { ...plain, id: "4", arrivalMs: 113_000, inputTokens: 417, outputTokens: 276, kind: "GPT-4" },
    ]);
    const kept = playWorkload(openBurstGpt(path, { zeroLengths: "one" }));
    expect(kept.map(({ outputTokens }) => outputTokens)).toEqual([18, 1, 276]);
    expect(() => playWorkload(openBurstGpt(path, { zeroLengths: "error" }))).toThrow(
      /b\.csv:3: Response tokens: is 0; set zeroLengths/,
    );
  });

  it("of Qwen-Bailian join the turns of a conversation to a session", () => {
    const requests = playWorkload(openQwen(files.write("q.jsonl", QWEN)));
    expect(requests.map(({ arrivalMs, sessionId, kind }) => [arrivalMs, sessionId, kind])).toEqual([
      [500, "1", "text"],
      [1250, "1", "search"],
      [9000, "1", "text"],
    ]);
    expect(requests[1]?.blocks).toEqual(blocks(16, [4, 6, 7]));
  });

  it("of our own are written as they were read", () => {
    const path = files.write("own.jsonl", OWN);
    const requests = playWorkload(openJsonl(path));
    expect(requests[0]).toEqual({
      id: "a",
      arrivalMs: 0,
      inputTokens: 40,
      outputTokens: 2,
      blocks: { blockTokens: 16, scope: "s", ids: [1, 2] },
      sessionId: "x",
      tenant: "t",
      priority: 2,
      kind: "video",
      encodeMs: 12.5,
      wishes: null,
    });
  });

  it("says of the KV what the server makes of the same words", () => {
    const cache = { keep: "long", ttlSeconds: 300, fanOut: 4, nextTurnSeconds: 1.5 };
    const row = { id: "a", arrivalMs: 0, inputTokens: 4, outputTokens: 2 };
    const lines = [
      { ...row, cache },
      { ...row, id: "b", cache: { ttlSeconds: 60 } },
      { ...row, id: "c", cache: {} },
    ];
    const path = files.write("wishes.jsonl", lines.map((line) => JSON.stringify(line)).join("\n"));
    expect(playWorkload(openJsonl(path)).map(({ wishes }) => wishes)).toEqual([
      { retention: { keep: "long", ttlMs: 300_000 }, expectedFanOut: 4, nextTurnMs: 1500 },
      { retention: { keep: "default", ttlMs: 60_000 } },
      {},
    ]);
  });
});

describe("the format of a file", () => {
  it.each([
    ["mooncake", MOONCAKE],
    ["azure", AZURE],
    ["burstgpt", BURSTGPT],
    ["qwen", QWEN],
    ["jsonl", OWN],
    ["lengths", "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n1,2,3,0.5\n"],
    ["weka", `{\n "id": "t", "block_size": 64,\n "hash_id_scope": "local", "requests": []}`],
  ])("%s is known by its content", (format, text) => {
    expect(detectFormat(files.write("unnamed", text))).toBe(format);
  });

  it("of folders too, and unknown ones are refused with what is known", () => {
    files.write("clients/c-trace.csv", "");
    files.write("agents/one.json", "{}");
    expect(detectFormat(`${files.folder}/clients`)).toBe("servegen");
    expect(detectFormat(`${files.folder}/agents`)).toBe("weka");
    expect(() => detectFormat(files.write("x", "a,b,c\n"))).toThrow(/in no known format.*mooncake, azure/);
    expect(() => detectFormat("/nonexistent/file")).toThrow(/nonexistent.*cannot be read/);
  });
});

describe("bad rows are refused with file and line", () => {
  const good = MOONCAKE.split("\n")[1]!;
  it.each<[string, (path: string) => unknown, string]>([
    [`${good}\n{"timestamp": 0`, openMooncake, ":2: is not JSON"],
    [`${good}\n[1]`, openMooncake, ":2: [1] is not an object"],
    [`${good}\n${good.replace("27000", "26999")}`, openMooncake, ":2: arrives at 26999 ms, before"],
    [
      good.replace('"input_length":512', '"input_length":-1'),
      openMooncake,
      ":1: input_length: -1 is not usable",
    ],
    [
      good.replace('"input_length":512', '"input_length":1.5'),
      openMooncake,
      ":1: input_length: 1.5 is not usable",
    ],
    [good.replace('"input_length":512', '"input_length":99999999'), openMooncake, "from 0 to 4194304"],
    [good.replace('"output_length":52', '"output_length":0'), openMooncake, ":1: output_length: is 0"],
    [good.replace('"output_length":52,', ""), openMooncake, ":1: output_length: is missing"],
    [good.replace("[0]", "[0,1]"), openMooncake, "has 2 ids, but a prompt of 512 tokens has 1 blocks of 512"],
    [good.replace("[0]", "[0.5]"), openMooncake, ":1: hash_ids[0]: 0.5 is not usable"],
    [good.replace("[0]", '"0"'), openMooncake, "allowed: a list of whole numbers"],
    [
      good.replace("27000", "-1"),
      openMooncake,
      ":1: timestamp: -1 is not usable; allowed: numbers from 0 up",
    ],
    ["", openMooncake, ": holds no requests"],
    [
      "TIMESTAMP,ContextTokens\n",
      openAzure,
      ':1: has no column "GeneratedTokens"; found: "TIMESTAMP", "ContextTokens"',
    ],
    [AZURE.replace("4808", "x"), openAzure, ':2: ContextTokens: "x" is not usable'],
    [AZURE.replace("4808", "-3"), openAzure, ':2: ContextTokens: "-3" is not usable'],
    [AZURE.replace("11-16", "02-30"), openAzure, ":2: TIMESTAMP: "],
    [AZURE.replace("23:59", "24:59"), openAzure, ":2: TIMESTAMP: "],
    [AZURE.replace(",10", ""), openAzure, ":2: has 2 fields; the header names 3"],
    [AZURE.replace("11-17", "11-15"), openAzure, ":3: arrives at"],
    [BURSTGPT.replace("\n5,", "\nsoon,"), openBurstGpt, ':2: Timestamp: "soon" is not usable'],
    [QWEN.replace('"chat_id":1', '"chat_id":"one"'), openQwen, ':1: chat_id: "one" is not usable'],
    [
      QWEN.replace("[4,5]", "[4]").replace("20", "40"),
      openQwen,
      "has 1 ids, but a prompt of 40 tokens has 2 or 3 blocks of 16",
    ],
    [OWN.replace("priority", "prioritaet"), openJsonl, ':1: unknown key "prioritaet"'],
    [OWN.replace("tenant", "tenent"), openJsonl, "(did you mean tenant?)"],
    [OWN.replace('"blockTokens":16,', ""), openJsonl, ":1: blockTokens: is missing"],
    [
      OWN.replace('"id":"b"', '"cache":{"fan_out":4},"id":"b"'),
      openJsonl,
      ':2: cache: unknown key "fan_out"',
    ],
    [
      OWN.replace('"id":"b"', '"cache":{"fanOut":"told"},"id":"b"'),
      openJsonl,
      ':2: cache.fanOut: "told" is not a whole number from 1 to 4096',
    ],
    [OWN.replace('"id":"b"', '"cache":7,"id":"b"'), openJsonl, ":2: cache: 7 is not a mapping of keys"],
    [OWN.replace('"id":"b"', '"id":""'), openJsonl, ':2: id: "" is not usable'],
    [OWN.replace('"id":"b"', '"id":"a"'), openJsonl, ':2: id: "a" is the id of one of the 100000 requests'],
  ])("%#", (text, open, message) => {
    const path = files.write("bad", text);
    const read = (): WorkloadRequest[] => playWorkload(open(path) as ReturnType<typeof openMooncake>);
    expect(read).toThrow(`${path}${message.startsWith(":") ? message : ""}`);
    expect(read).toThrow(message);
    expect(read).toThrow(expect.objectContaining({ name: "WorkloadError", code: "bad_workload" }));
  });

  it("and a file that is not there by its name", () => {
    expect(() => openMooncake("/nonexistent.jsonl")).toThrow(
      /^\/nonexistent\.jsonl: cannot be opened: ENOENT/,
    );
    expect(() => openMooncake(files.folder)).toThrow(/cannot be read: EISDIR/);
  });
});

function blocks(blockTokens: number, ids: number[]): object {
  return { blockTokens, scope: "", ids };
}
