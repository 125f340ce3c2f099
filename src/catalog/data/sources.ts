/** A document that figures come from. */
export interface Source {
  readonly title: string;
  /** As precisely as it is known: `2026`, `2026-03`, `2026-03-16`. */
  readonly date?: string | undefined;
  readonly url?: string | undefined;
  /** How it was read, where that matters. */
  readonly note?: string | undefined;
}

const BLOG = "https://developer.nvidia.com/blog";
const PRODUCT = "https://www.nvidia.com/en-us/data-center";
const SECONDARY = "secondary";

/** Every source of the built-in catalogue. */
export const SOURCES = {
  "nv-cpx-blog": { title: "NVIDIA technical blog on Rubin CPX", date: "2025-09-09" },
  "nv-lpx-blog": {
    title: "Inside NVIDIA Groq 3 LPX",
    date: "2026-03-16",
    url: `${BLOG}/inside-nvidia-groq-3-lpx-the-low-latency-inference-accelerator-for-the-nvidia-vera-rubin-platform/`,
  },
  "nv-lpx-page": { title: "NVIDIA LPX product page", url: `${PRODUCT}/lpx/`, note: "as quoted elsewhere" },
  "nv-vr-page": {
    title: "Vera Rubin NVL72 product page, marked preliminary",
    date: "2026",
    url: `${PRODUCT}/vera-rubin-nvl72/`,
    note: "as quoted elsewhere",
  },
  "nv-dgx-vr-page": {
    title: "DGX Vera Rubin NVL72 page",
    date: "2026",
    url: `${PRODUCT}/dgx-vera-rubin-nvl72/`,
  },
  "nv-pod-blog": {
    title: "NVIDIA Vera Rubin POD: seven chips, five rack-scale systems",
    date: "2026-03",
    url: `${BLOG}/nvidia-vera-rubin-pod-seven-chips-five-rack-scale-systems-one-ai-supercomputer/`,
  },
  "nv-ocp-blog": {
    title: "NVIDIA on gigawatt AI factories and Vera Rubin (renames NVL144 to NVL72)",
    date: "2025-10",
    url: "https://blogs.nvidia.com/blog/gigawatt-ai-factories-ocp-vera-rubin/",
  },
  "nv-gb300-page": { title: "GB300 NVL72 product page", url: `${PRODUCT}/gb300-nvl72/` },
  "nv-bu-datasheet": { title: "NVIDIA Blackwell Ultra datasheet", date: "2025-10" },
  "nv-bu-blog": {
    title: "Inside NVIDIA Blackwell Ultra",
    date: "2025-08-22",
    url: `${BLOG}/inside-nvidia-blackwell-ultra-the-chip-powering-the-ai-factory-era/`,
  },
  "nv-nvl72-ra": {
    title: "GB300 NVL72 enterprise reference architecture",
    url: "https://docs.nvidia.com/enterprise-reference-architectures/nvl72-ai-factory/latest/components.html",
  },
  "nv-ds": { title: "NVIDIA public datasheets of the part" },
  "amd-ds": { title: "AMD public datasheets (MI300X, MI355X)" },
  aic: {
    title: "AIConfigurator system files, maintained by NVIDIA; latencies are marked unofficial there",
    url: "https://github.com/ai-dynamo/aiconfigurator",
    note: "commit 095f58a",
  },
  "aic-models": {
    title: "AIConfigurator model_configs: published config.json files",
    url: "https://github.com/ai-dynamo/aiconfigurator",
  },
  "sa-cpx": {
    title: "SemiAnalysis: Another Giant Leap, the Rubin CPX",
    date: "2025-09-10",
    url: "https://newsletter.semianalysis.com/p/another-giant-leap-the-rubin-cpx-specialized-accelerator-rack",
  },
  "sa-gtc26": { title: "SemiAnalysis: Nvidia, The Inference Kingdom Expands", date: "2026-03-24" },
  "six-rack-units": { title: "SixRackUnits newsletter", date: "2025-09" },
  "cpx-survey": {
    title: "Card wiki that quotes Ming-Chi Kuo's survey",
    date: "2026-09-01",
    note: SECONDARY,
  },
  "computerbase-buck": {
    title: "ComputerBase round table with Ian Buck",
    date: "2026-03",
    note: "through a secondary article",
  },
  "toms-cpx": {
    title: "Tom's Hardware: Rubin CPX removed from the roadmap",
    date: "2026-03",
    url: "https://tomshardware.com/pc-components/gpus/nvidia-removes-rubin-cpx-accelerators-from-its-roadmap-groq-3-lpus-take-center-stage-as-cpx-is-removed",
  },
  "ms-bom": {
    title: "Morgan Stanley rack cost estimate, through a reseller's blog",
    date: "2026",
    url: "https://www.buysellram.com/blog/why-nvidias-vera-rubin-racks-cost-double-and-memory-is-the-surprise/",
  },
  mercatus: {
    title: "Mercatus cloud GPU price guide",
    date: "2026-05",
    url: "https://www.mercatus-ai.com/blog/cloud-gpu-pricing",
  },
  aimultiple: {
    title: "AIMultiple cloud GPU rental index",
    date: "2026-05-20",
    url: "https://aimultiple.com/gpu-index",
  },
  awesomeagents: { title: "awesomeagents hardware pages", note: SECONDARY },
  "vr-drills": { title: "Public study notes on Vera Rubin rack power", note: SECONDARY },
  fibermall: { title: "Fibermall analysis of GB200", note: SECONDARY },
  "rubin-power-notes": { title: "Public notes on Rubin package power", note: SECONDARY },
  "cpx-table-ja": {
    title: "Public comparison table of a Japanese repository (video engines of CPX)",
    note: SECONDARY,
  },
  "dgx-price-page": { title: "DGX price page", date: "2026", note: SECONDARY },
  megascale: { title: "MegaScale-Infer (SIGCOMM 2025)", url: "https://arxiv.org/abs/2504.02263" },
  step3: {
    title: "Step-3 is Large yet Affordable",
    date: "2025-07",
    url: "https://arxiv.org/abs/2507.19427",
  },
  isca20: { title: "Think Fast: a Tensor Streaming Processor (ISCA 2020)", date: "2020" },
  isca22: {
    title: "A software-defined tensor streaming multiprocessor (ISCA 2022)",
    date: "2022",
    url: "https://doi.org/10.1145/3470496.3527405",
  },
  "isca22-notes": { title: "Public reading notes that quote the ISCA 2020 and 2022 papers" },
  orca: { title: "ORCA (OSDI 2022)", date: "2022" },
  sarathi: { title: "SARATHI", date: "2023", url: "https://arxiv.org/abs/2308.16369" },
  "sarathi-serve": { title: "Sarathi-Serve (OSDI 2024)", date: "2024" },
  splitwise: { title: "Splitwise (ISCA 2024)", date: "2024", url: "https://arxiv.org/abs/2311.18677" },
  "splitwise-sim": {
    title: "SplitwiseSim: code and configuration of the paper's simulator",
    date: "2024-04",
    url: "https://github.com/Mutinifni/splitwise-sim",
  },
  distserve: { title: "DistServe (OSDI 2024)", date: "2024", url: "https://arxiv.org/abs/2401.09670" },
  "hf-config": { title: "The model's published config.json and model card" },
  memory: { title: "Written down from general knowledge of the part, not compared with a document" },
  arithmetic: { title: "Computed here from other figures of the catalogue" },
} as const satisfies Record<string, Source>;

export type SourceId = keyof typeof SOURCES;
