import { describe, expect, it } from "vitest";
import { madeUpProfile } from "../../test/support/profile.ts";
import { parseProfile, toEngineProfile } from "./profile-file.ts";

describe("a profile file", () => {
  it("is read back as it was written, from JSON and as YAML", () => {
    const profile = madeUpProfile();
    expect(parseProfile(JSON.stringify(profile, null, 2), "p.json")).toEqual(profile);
    expect(toEngineProfile(profile).step).toEqual(profile.step);
  });

  it("may have no handoff", () => {
    const profile = { ...madeUpProfile(), handoff: null };
    expect(toEngineProfile(parseProfile(JSON.stringify(profile), "p.json")).handoff).toBeNull();
  });

  it.each([
    [{ profileVersion: 2 }, /p\.json:\d+:\d+: profileVersion/],
    [{ kvCapacityTokens: 0 }, /kvCapacityTokens: 0 is out of range/],
    [{ step: { ...madeUpProfile().step, stepMs: -1 } }, /step\.stepMs: -1 is out of range/],
    [{ step: { ...madeUpProfile().step, tokenMs: [1] } }, /step\.tokenMs/],
    [{ stpe: {} }, /unknown key "stpe" \(did you mean step\?\)/],
  ])("with %j is refused, with its place", (change, message) => {
    const text = JSON.stringify({ ...madeUpProfile(), ...change }, null, 2);
    expect(() => parseProfile(text, "p.json")).toThrow(message);
  });

  it("that is no mapping is refused", () => {
    expect(() => parseProfile("[1]", "p.json")).toThrow(/p\.json/);
  });
});
