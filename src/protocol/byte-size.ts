import { z } from "zod";

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** The smallest size of a store, and the largest. */
const MIN_BYTES = 2 ** 16;
const MAX_BYTES = 2 ** 50;

/** The bytes that a text such as `512MiB`, `8GB` or `100000` means; null when it is no size from 64 KiB to 1 PiB. */
export function parseByteSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?B|B?)$/i.exec(text.trim());
  const unit = UNITS[match?.[2]?.toUpperCase() ?? "-"];
  if (match === null || unit === undefined) return null;
  const bytes = Math.floor(Number(match[1]) * unit);
  return bytes >= MIN_BYTES && bytes <= MAX_BYTES ? bytes : null;
}

/** Text that {@link parseByteSize} reads. */
export const byteSizeSchema = z
  .string()
  .max(64)
  .refine((text) => parseByteSize(text) !== null, "is not a size from 64KiB to 1PiB, such as 512MiB or 8GB");
