// The model in ONNX Runtime Web. Everything is loaded from this folder.
import * as ort from './ort.wasm.bundle.min.mjs';
import { decode, toPixels } from './pictures.js';

ort.env.wasm.numThreads = 1; // more need headers that a plain static server does not send

const here = name => new URL(`./${name}`, import.meta.url).href;
ort.env.wasm.wasmPaths = { wasm: here('ort-wasm-simd-threaded.wasm') };
export const { classes, side } = await (await fetch(here('model.json'))).json();
let session; // a promise: the model is loaded once, when it is needed

/** The pixels that the model sees, and its probabilities in the order of `classes`, for a Blob or a video element. */
export async function classify(source) {
  session ??= ort.InferenceSession.create(here('model.onnx'));
  const isVideo = source instanceof HTMLVideoElement;
  const picture = isVideo ? source : await decode(source);
  const pixels = toPixels(picture, picture.videoWidth ?? picture.width, picture.videoHeight ?? picture.height, side);
  if (!isVideo) picture.close();
  const image = new ort.Tensor('uint8', pixels, [1, side, side, 3]);
  const { probabilities } = await (await session).run({ image });
  return { pixels, probabilities: Array.from(probabilities.data) };
}
