import { z } from "zod";

/** Most devices of one node, and most nodes of one rack. */
const MAX_PER_NODE = 1024;

/** Most devices of one scale-up domain. */
const MAX_SCALE_UP_DEVICES = 65_536;

/** Most racks in a row, and most nodes of a network. */
const MAX_NODES = 1_000_000;

/** Fastest link that a scenario may ask for: a thousand times a scale-up link of 2026. */
const MAX_BYTES_PER_SECOND = 1e15;

/** Slowest: a modem's. */
const MIN_BYTES_PER_SECOND = 1000;

const MAX_LATENCY_MS = 60_000;
const MAX_TIER_BYTES = 1e18;
const MAX_OVERSUBSCRIPTION = 1000;
const MAX_GROUPS = 64;
const MAX_NAME_LENGTH = 128;

const bytesPerSecondSchema = z.number().min(MIN_BYTES_PER_SECOND).max(MAX_BYTES_PER_SECOND);
const latencySchema = z.number().min(0).max(MAX_LATENCY_MS);

/** A link: bandwidth per direction, and one-way time. */
const networkLinkSchema = z.strictObject({
  bytesPerSecond: bytesPerSecondSchema,
  latencyMs: latencySchema,
});

/** Where KV is kept outside the accelerators. */
const tierSchema = z.strictObject({
  /** Of one node, or of the whole store for `remote`. */
  capacityBytes: z.number().min(1).max(MAX_TIER_BYTES),
  readBytesPerSecond: bytesPerSecondSchema,
  writeBytesPerSecond: bytesPerSecondSchema,
  latencyMs: latencySchema.default(0),
});

/** How one kind of device is built into nodes and racks. */
const groupShape = {
  devicesPerNode: z.int().min(1).max(MAX_PER_NODE).optional(),
  nodesPerRack: z.int().min(1).max(MAX_PER_NODE).optional(),
  /** Devices that reach each other by the scale-up link. Default: what the device says, within a node. */
  scaleUpDevices: z.int().min(1).max(MAX_SCALE_UP_DEVICES).optional(),
  /** Whether the default scale-up domain reaches beyond a node (NVL72). */
  scaleUpAcrossNodes: z.boolean().optional(),
  /** The NIC of each device. Default: what the device says. */
  nic: networkLinkSchema.optional(),
  /** One NIC for a whole node, in place of one for each device. */
  nodeNic: networkLinkSchema.optional(),
  /** Whether NIC traffic and host traffic of a device share its PCIe link. */
  nicOnHostLink: z.boolean().optional(),
  /** Nodes, or trays, of another group that these devices sit in (Rubin CPX beside Rubin). Default: nodes of their own. */
  insideNodesOf: z.string().min(1).max(MAX_NAME_LENGTH).optional(),
};
const groupSchema = z.strictObject(groupShape);

export const NETWORK_PRESET_NAMES = [
  "single-node",
  "nvl72",
  "dgx-cluster",
  "ethernet-25g",
  "uncontended",
] as const;

/** The `network` section of a scenario. What is not given comes from the preset, then from the devices. */
export const networkSchema = z
  .strictObject({
    preset: z.enum(NETWORK_PRESET_NAMES).default("dgx-cluster"),
    ...groupShape,
    racksPerRow: z.int().min(1).max(MAX_NODES).optional(),
    /** Most nodes that there are; more workers than they hold is an error. */
    maxNodes: z.int().min(1).max(MAX_NODES).optional(),
    /** Bandwidth of all NICs in a rack over the bandwidth of its uplinks; 1 is a non-blocking fabric. */
    rackOversubscription: z.number().min(1).max(MAX_OVERSUBSCRIPTION).optional(),
    /** Bandwidth of all NICs in a row over the bandwidth of its uplinks. */
    rowOversubscription: z.number().min(1).max(MAX_OVERSUBSCRIPTION).optional(),
    /** Added for every switch beyond the first. */
    hopLatencyMs: latencySchema.optional(),
    /** Only with `preset: uncontended`: what every transfer gets, whatever else is under way. */
    pair: networkLinkSchema.optional(),
    /** What differs for one kind of device, by its name in the scenario. */
    groups: z
      .record(z.string().min(1).max(MAX_NAME_LENGTH), groupSchema)
      .refine((groups) => Object.keys(groups).length <= MAX_GROUPS, `has more than ${MAX_GROUPS} groups`)
      .default({}),
    tiers: z
      .strictObject({
        host: tierSchema.optional(),
        disk: tierSchema.optional(),
        remote: tierSchema.optional(),
      })
      .default({}),
  })
  .superRefine((network, context) => {
    if (network.preset !== "uncontended") {
      if (network.pair === undefined) return;
      context.addIssue({ code: "custom", path: ["pair"], message: "goes only with preset: uncontended" });
      return;
    }
    // Without places and links these would change nothing; a scenario that states them expects that they do.
    for (const [key, value] of Object.entries(network)) {
      const isEmpty = value === undefined || (typeof value === "object" && Object.keys(value).length === 0);
      if (key === "preset" || key === "pair" || isEmpty) continue;
      context.addIssue({
        code: "custom",
        path: [key],
        message: "means nothing with preset: uncontended, which takes only pair",
      });
    }
  });

export type NetworkSection = z.output<typeof networkSchema>;
export type NetworkGroup = z.output<typeof groupSchema>;
export type NetworkLink = z.output<typeof networkLinkSchema>;
export type NetworkTier = z.output<typeof tierSchema>;
