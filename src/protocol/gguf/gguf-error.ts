/** A GGUF file that cannot be used. The message names the file and says what is wrong with it. */
export class GgufError extends Error {
  override name = "GgufError";
}
