import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import { catalogReportSchema } from "../catalog/catalog-report.ts";
import { runCli } from "./program.ts";
import type { Product } from "./serving.ts";

const nothing: Product = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

describe("twofold catalog", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "twofold-catalog-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const run = async (...args: string[]) => {
    const io = new FakeIo({ cwd: folder });
    const code = await runCli(["catalog", ...args], io, nothing);
    return { code, out: io.outText, err: io.errText };
  };

  it("shows a table per kind, with marks for what is not the vendor's", async () => {
    const { code, out, err } = await run();
    expect([code, err]).toEqual([0, ""]);
    for (const heading of ["Accelerators and CPUs", "Racks and servers", "Links", "Models"]) {
      expect(out).toContain(heading);
    }
    expect(out).toMatch(/^h100-sxm +2022-03 +989 +1,979 +- +80 +3,350 +450 +8 +700 +yes$/m);
    expect(out).toMatch(/^rubin-cpx-2025 +2025-09-09 +\? +\? +20,000\* +128 +2,000\*/m);
    expect(out).toMatch(/^groq3-lp30 .* with 3 assumptions$/m);
    expect((await run("--kind", "link")).out).not.toContain("h100-sxm");
  });

  it("shows every figure of an entry with unit, confidence and source, and the sources", async () => {
    const { code, out } = await run("GB300-nvl72");
    expect(code).toBe(0);
    expect(out).toMatch(/power\.rack +142 kW +vendor +nv-nvl72-ra/);
    expect(out).toContain("compute.fp4Dense: 1,080, stated 1,080");
    expect(out).toContain("nv-gb300-page: GB300 NVL72 product page; https://www.nvidia.com/");
    const cpx = (await run("rubin-cpx-2025")).out;
    for (const part of ["Contradictions", "History", "Missing\n  dense.bf16, dense.fp8, price.hour"]) {
      expect(cpx).toContain(part);
    }
    expect(cpx).toMatch(/dense\.fp8 +unknown/);
    expect((await run("gpt-oss-120b")).out).toContain("73,728 bytes per token in BF16; 36,864 once");
  });

  it("keeps to the width of the terminal where it breaks lines", async () => {
    const { out } = await run("vr-nvl144-cpx");
    const prose = out.slice(out.indexOf("Contradictions")).split("\n");
    expect(prose.filter((line) => line.length > 100 && !line.includes("https://"))).toEqual([]);
  });

  it("prints one JSON object that fits the schema", async () => {
    const { out } = await run("h20", "--json");
    expect(out.trimEnd()).not.toContain("\n");
    const { entries, sources } = catalogReportSchema.parse(JSON.parse(out));
    expect(entries).toHaveLength(1);
    expect(entries[0]).toMatchObject({ kind: "accelerator", id: "h20-sxm", blockedBy: [] });
    expect(sources.step3?.url).toBe("https://arxiv.org/abs/2507.19427");
    const everything = catalogReportSchema.parse(JSON.parse((await run("--json")).out));
    expect(everything.entries.length).toBeGreaterThan(60);
  });

  it("adds the entries of a file, relative to the working directory", async () => {
    writeFileSync(
      join(folder, "lab.yaml"),
      "accelerators: [{ id: lab-chip, name: Lab, basedOn: gb300, figures: { memory.capacity: 100 } }]",
    );
    const { out } = await run("lab-chip", "--file", "lab.yaml");
    expect(out).toMatch(/memory\.capacity +100 GB +derived +file:lab\.yaml/);
    expect(out).toMatch(/dense\.fp4 +15,000 TFLOPS +vendor/);
  });

  it("is wrong usage for a name, a kind or a file that is not there", async () => {
    expect(await run("h100-smx")).toMatchObject({
      code: 2,
      err: expect.stringContaining("did you mean h100-sxm?"),
    });
    expect(await run("rubin-cpx")).toMatchObject({
      code: 2,
      err: expect.stringContaining("choose one: rubin-cpx-2025"),
    });
    expect(await run("h100-sxm", "--kind", "rack")).toMatchObject({ code: 2 });
    expect(await run("--kind", "gpu")).toMatchObject({
      code: 2,
      err: 'twofold: --kind: "gpu" is not allowed; allowed: accelerator, rack, link, model\n',
    });
    expect(await run("--file", "no.yaml")).toMatchObject({
      code: 2,
      err: expect.stringContaining("no.yaml: does not exist"),
    });
    writeFileSync(join(folder, "bad.yaml"), "links:\n  - id: x\n    nam: X\n");
    expect(await run("--file", "bad.yaml")).toMatchObject({
      code: 2,
      err: expect.stringContaining('bad.yaml:3:5: links[0]: unknown key "nam" (did you mean name?)'),
    });
  });
});
