import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BUILT_IN_CATALOG } from "./catalog.ts";
import { loadCatalogFile, MAX_CATALOG_FILE_BYTES, parseCatalogFile } from "./catalog-file.ts";
import { toDeviceSpec } from "./device-spec.ts";
import { specOf } from "./resolve.ts";

const parse = (text: string) => parseCatalogFile(text, "extra.yaml", BUILT_IN_CATALOG);

const WHOLE = `
sources:
  lab: { title: Measured in our lab, date: '2026-11' }
links:
  - id: lab-fabric
    name: Fabric of the lab
    figures: { bandwidth: 40, latency: { value: 3, source: lab, confidence: third-party } }
accelerators:
  - id: lab-chip
    name: Chip of the lab
    links: { scaleUp: lab-fabric, scaleOut: nic-400g, host: pcie5-x16 }
    figures:
      dense.bf16: 500
      memory.capacity: 64
      memory.bandwidth: { value: 1200, low: 1100, high: 1300, source: lab, note: STREAM }
      scaleUp.devices: 4
      price.hour: null
  - id: slow-h100
    name: H100 behind a slow NIC
    basedOn: h100-sxm
    links: { scaleOut: nic-200g }
    figures: { power.tdp: 500 }
racks:
  - id: lab-rack
    name: Rack of the lab
    parts: { lab-chip: 16, cpu-x86-amx: 2 }
    figures: { power.rack: 12 }
models:
  - id: tiny
    name: Tiny
    shape:
      numLayers: 2
      hiddenSize: 64
      vocabSize: 100
      maxContextTokens: 512
      attention: { kind: gqa, numHeads: 2, numKvHeads: 1, headDim: 32 }
      ffn: { kind: dense, intermediateSize: 128 }
`;

describe("catalogue file", () => {
  it("adds parts, links, racks and models that can be simulated", () => {
    const catalog = parse(WHOLE);
    const { spec, used } = specOf(toDeviceSpec(catalog.get("accelerator", "lab-chip")));
    expect(spec).toMatchObject({
      denseFlops: { bf16: 500e12 },
      scaleUp: { bytesPerSecond: 40e9, latencyMs: 0.003 },
      scaleOut: { bytesPerSecond: 50e9 },
    });
    expect(used.find(({ key }) => key === "dense.bf16")).toMatchObject({
      confidence: "derived",
      sources: ["file:extra.yaml"],
    });
    expect(used.find(({ key }) => key === "memory.bandwidth")).toMatchObject({
      sources: ["lab"],
      note: "STREAM",
    });
    expect(catalog.get("rack", "lab-rack").figures["power.rack"]?.value).toBe(12);
    expect(catalog.get("model", "tiny").shape.ffn).toEqual({
      kind: "dense",
      intermediateSize: 128,
      isGated: true,
    });
    expect(catalog.get("accelerator", "h100-sxm")).toEqual(BUILT_IN_CATALOG.get("accelerator", "h100-sxm"));
  });

  it("takes over what an entry is based on, but not the link that it replaces", () => {
    const { figures } = parse(WHOLE).get("accelerator", "slow-h100");
    expect(figures["scaleOut.bandwidth"]?.value).toBe(25);
    expect(figures["scaleUp.bandwidth"]?.value).toBe(450);
    expect(figures["power.tdp"]?.value).toBe(500);
    expect(figures["dense.fp8"]).toEqual(
      BUILT_IN_CATALOG.get("accelerator", "h100-sxm").figures["dense.fp8"],
    );
  });

  it("replaces an entry of the same id, for the parts that use it too", () => {
    const catalog = parse("links: [{ id: nvlink4, name: N, figures: { bandwidth: 400, latency: 2 } }]");
    expect(catalog.get("accelerator", "h100-sxm").figures["scaleUp.bandwidth"]?.value).toBe(400);
    expect(catalog.all("link").filter(({ id }) => id === "nvlink4")).toHaveLength(1);
  });

  it("may be empty", () => {
    expect(parse("").all("model")).toEqual(BUILT_IN_CATALOG.all("model"));
  });

  it.each([
    ["acelerators: []", 'extra.yaml:1:1: unknown key "acelerators" (did you mean accelerators?)'],
    [
      "links:\n  - id: x\n    name: X\n    figures: { bandwith: 3 }",
      "extra.yaml:4:16: links[0].figures: unknown key",
    ],
    ["links: [{ id: X, name: X }]", 'extra.yaml:1:11: links[0].id: "X" has to be 1 to 64 of a-z'],
    [
      "links:\n  - id: x\n    name: X\n    figures:\n      bandwidth: 50e9",
      "extra.yaml:5:7: links[0].figures.bandwidth: 50000000000 is out of range; allowed: 0 to 100000 GB/s",
    ],
    [
      "links: [{ id: x, name: X, figures: { latency: fast } }]",
      'latency: "fast" has to be a number of µs from 0 to 100000, null, or a mapping with value, source',
    ],
    [
      "links: [{ id: x, name: X, figures: { latency: { value: 1, source: nowhere } } }]",
      'there is no source "nowhere"; describe it under sources',
    ],
    [
      "links: [{ id: x, name: X, figures: { latency: { value: 5, low: 1, high: 2 } } }]",
      "5 is not between low 1",
    ],
    ["links: [{ id: x, name: X }, { id: x, name: Y }]", '"x" is defined more than once'],
    ["links: [{ id: x, name: X, aliases: [NVLink4] }]", 'the alias "NVLink4" of x is a name of nvlink4'],
    [
      "accelerators:\n  - id: x\n    name: X\n    links:\n      host: pcie9",
      'extra.yaml:5:7: the catalogue has no link "pcie9"',
    ],
    ["accelerators: [{ id: x, name: X, basedOn: h100-smx }]", "did you mean h100-sxm?"],
    ["racks: [{ id: x, name: X, parts: { h1000: 3 } }]", 'the catalogue has no accelerator "h1000"'],
    ["racks: [{ id: x, name: X, parts: { gb300: 0 } }]", "racks[0].parts.gb300: 0 is out of range"],
    ["models: [{ id: x, name: X }]", "needs exactly one of config, gguf and shape"],
    ["models: [{ id: x, name: X, config: nowhere.json }]", "nowhere.json does not exist"],
    ["models: [{ id: x, name: X, gguf: nowhere.gguf }]", "nowhere.gguf: missing: there is no such file"],
    ["links: [", /extra\.yaml:1:\d+: /],
    ["- 1", "extra.yaml: "],
  ])("says what is wrong with %j", (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });

  it("checks a shape against itself", () => {
    expect(() => parse(WHOLE.replace("numKvHeads: 1", "numKvHeads: 3"))).toThrow(
      /extra\.yaml:\d+:\d+: models\[0\]\.shape\.attention\.numKvHeads: 3 does not divide the 2 heads/,
    );
  });
});

describe("files beside a catalogue file", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "twofold-catalog-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("give models", () => {
    writeFileSync(
      join(folder, "config.json"),
      JSON.stringify({
        model_type: "opt",
        hidden_size: 64,
        ffn_dim: 256,
        num_attention_heads: 4,
        num_hidden_layers: 3,
        vocab_size: 100,
        max_position_embeddings: 2048,
      }),
    );
    const path = join(folder, "extra.yaml");
    writeFileSync(path, "models: [{ id: small-opt, name: Small OPT, config: config.json }]");
    const { shape } = loadCatalogFile(path, BUILT_IN_CATALOG).get("model", "small-opt");
    expect(shape).toMatchObject({ name: "Small OPT", numLayers: 3, hasTiedEmbeddings: true });
  });

  it("have to exist, be files, and be of a sane size", () => {
    expect(() => loadCatalogFile(join(folder, "no.yaml"), BUILT_IN_CATALOG)).toThrow(
      "no.yaml: does not exist",
    );
    expect(() => loadCatalogFile(folder, BUILT_IN_CATALOG)).toThrow("is not a file");
    const path = join(folder, "large.yaml");
    writeFileSync(path, " ".repeat(MAX_CATALOG_FILE_BYTES + 1));
    expect(() => loadCatalogFile(path, BUILT_IN_CATALOG)).toThrow("is larger than");
  });
});
