import type { LinkEntry } from "../entry.ts";
import { derived, type Figure, recalled, thirdParty, unknown, vendor } from "../figure.ts";

/** AIConfigurator's constant for a message between two devices; its authors call it unofficial. */
const POINT_TO_POINT = derived(10, "aic", "unofficial constant of the source for point-to-point messages");
const ACROSS_NODES = derived(15, "aic", "10 µs point to point + 5 µs between racks, both unofficial there");
const TO_HOST = derived(10, "aic", "taken as the source's point-to-point latency");

function link(
  id: string,
  name: string,
  revision: string,
  bandwidth: Figure,
  latency: Figure,
  notes?: readonly string[],
): LinkEntry {
  const figures = { bandwidth, latency };
  return { kind: "link", id, name, revision, figures, ...(notes === undefined ? {} : { notes }) };
}

/** Links by name, bandwidth per direction and device. */
export const LINKS: readonly LinkEntry[] = [
  link("nvlink3", "NVLink 3", "2020", vendor(300, "aic", "600 GB/s both ways"), POINT_TO_POINT),
  link("nvlink4", "NVLink 4", "2022", vendor(450, "aic", "900 GB/s both ways"), POINT_TO_POINT),
  link(
    "nvlink4-export",
    "NVLink 4, export variant of H800",
    "2023",
    vendor(200, "aic", "400 GB/s both ways"),
    POINT_TO_POINT,
  ),
  link("nvlink5", "NVLink 5", "2024", vendor(900, "aic", "1.8 TB/s both ways"), POINT_TO_POINT),
  link("nvlink6", "NVLink 6", "2026", derived(1800, "nv-vr-page", "3.6 TB/s both ways"), POINT_TO_POINT),
  link(
    "nvlink-c2c-grace",
    "NVLink-C2C between Grace and its GPU",
    "2024",
    recalled(derived(450, "nv-ds", "900 GB/s both ways")),
    TO_HOST,
    ["One Grace CPU serves two GPUs; its memory gives about 0.5 TB/s."],
  ),
  link(
    "nvlink-c2c-vera",
    "NVLink-C2C between Vera and Rubin",
    "2026",
    derived(900, "nv-vr-page", "1.8 TB/s both ways"),
    TO_HOST,
    ["One Vera CPU serves two Rubin packages; its memory gives 1.2 TB/s."],
  ),
  link(
    "infinity-fabric-3",
    "Infinity Fabric of MI300X, 7 peers",
    "2023",
    derived(448, "amd-ds", "896 GB/s both ways over seven links"),
    POINT_TO_POINT,
  ),
  link(
    "infinity-fabric-4",
    "Infinity Fabric of MI355X, 7 peers",
    "2025",
    recalled(derived(537, "amd-ds", "about 1,075 GB/s both ways over seven links")),
    POINT_TO_POINT,
  ),
  link(
    "groq-c2c-tsp",
    "Groq C2C of TSP v1, 11 links",
    "2022",
    derived(137.5, "isca22-notes", "11 links x 100 Gb/s"),
    thirdParty(0.24, "isca22-notes", "about 216 cycles at 0.9 GHz for one link"),
  ),
  link(
    "groq-c2c-lp30",
    "Groq C2C of LP30, 96 links",
    "2026-03",
    derived(1250, "nv-lpx-blog", {
      range: [1200, 1344],
      note: "2.5 TB/s both ways as printed; 1.344 TB/s at line rate, about 1.2 effective",
    }),
    unknown("no link latency of LPX is published"),
  ),
  link("pcie4-x16", "PCIe 4.0 x16", "2020", vendor(32, "aic"), TO_HOST),
  link("pcie5-x8", "PCIe 5.0 x8", "2022", derived(32, "aic", "half of x16"), TO_HOST),
  link("pcie5-x16", "PCIe 5.0 x16", "2022", vendor(64, "aic"), TO_HOST),
  link("pcie6-x16", "PCIe 6.0 x16", "2025", vendor(128, "aic"), TO_HOST),
  link("nic-200g", "200 Gb/s NIC (HDR InfiniBand or Ethernet)", "2020", vendor(25, "aic"), ACROSS_NODES),
  link("nic-400g", "400 Gb/s NIC (NDR InfiniBand or Ethernet)", "2022", vendor(50, "aic"), ACROSS_NODES),
  link("nic-800g", "800 Gb/s NIC (ConnectX-8, ConnectX-9)", "2025", vendor(100, "aic"), ACROSS_NODES),
  link(
    "nic-2x800g",
    "Two 800 Gb/s NICs (Vera Rubin)",
    "2026",
    vendor(200, "nv-pod-blog", "two ConnectX-9 per Rubin package"),
    ACROSS_NODES,
  ),
];
