import { expect, test } from "vitest";
import { chooseTables } from "./kernel-tables.ts";
import type { TableFile } from "./table-folder.ts";

function file(engine: string, version: string, operator = "gemm"): TableFile {
  return { path: `${engine}/${version}/${operator}`, system: "h100_sxm", engine, version, operator };
}

function chosen(...files: TableFile[]): string[] {
  return chooseTables("data", files).map(({ path }) => path);
}

test("the latest version of an engine's table counts", () => {
  expect(chosen(file("vllm", "0.19.0"), file("vllm", "0.9.0"))).toEqual(["vllm/0.19.0/gemm"]);
});

test("of several engines vLLM counts, operator by operator", () => {
  const files = [file("sglang", "9.0"), file("vllm", "0.9.0"), file("sglang", "1.0", "moe")];
  expect(chosen(...files)).toEqual(["vllm/0.9.0/gemm", "sglang/1.0/moe"]);
});

test("tables of two other engines are not mixed", () => {
  expect(() => chosen(file("trtllm", "1.0"), file("sglang", "1.0"))).toThrow(
    "data: gemm of h100_sxm was measured with sglang and trtllm; leave the tables of one engine there",
  );
});
