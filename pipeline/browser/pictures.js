// Pictures as input of the model, as pipeline/data/pictures.py does it: upright, on white, centre square, area mean.

/** The picture in a Blob as an ImageBitmap, turned upright by its EXIF orientation, without colour management. */
export async function decode(blob) {
  try {
    return await createImageBitmap(blob, { imageOrientation: 'from-image', colorSpaceConversion: 'none' });
  } catch {
    throw new Error('This file is not a picture that the browser can read. Choose a JPEG, PNG, GIF, WebP or AVIF file.');
  }
}

/** The largest square in the middle of a picture: its left edge, its upper edge, its length. */
function middle(width, height) {
  const length = Math.min(width, height);
  return [Math.floor((width - length) / 2), Math.floor((height - length) / 2), length];
}

/** RGBA values, 0 to 255, of a square of a picture, on white. */
function onWhite(picture, left, top, length) {
  const context = new OffscreenCanvas(length, length).getContext('2d', { alpha: false });
  context.fillStyle = 'white';
  context.fillRect(0, 0, length, length);
  context.drawImage(picture, -left, -top);
  return context.getImageData(0, 0, length, length).data;
}

/**
 * For each of `side` output pixels: the first and the number of the pixels behind `start` whose mean it is.
 * This is Pillow's BOX filter in its own order of operations, because rounding decides where a pixel lies on an edge.
 */
function boxes(start, length, side) {
  const scale = length / side, width = Math.max(scale, 1), ranges = [];
  for (let position = 0; position < side; position++) {
    const centre = start + (position + 0.5) * scale;
    let [first, end] = [centre - width / 2, centre + width / 2].map(edge => Math.floor(edge + 0.5));
    while ((first - centre + 0.5) * (1 / width) <= -0.5) first++;
    while ((end - 1 - centre + 0.5) * (1 / width) > 0.5) end--;
    ranges.push({ first: first - start, count: end - first });
  }
  return ranges;
}

/** The mean of `count` values with this sum, rounded as Pillow does: its weights are multiples of 2 ** -22. */
const mean = (sum, count) => Math.floor((sum * Math.round(2 ** 22 / count) + 2 ** 21) / 2 ** 22);

/** Means along x of `height` rows of `length` pixels with `channels` values: RGB, `height` rows of ranges.length. */
function shrinkRows(values, length, channels, height, ranges) {
  const shrunk = new Uint8Array(height * ranges.length * 3);
  let position = 0;
  for (let y = 0; y < height; y++)
    for (const { first, count } of ranges)
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let x = first; x < first + count; x++) sum += values[(y * length + x) * channels + channel];
        shrunk[position++] = mean(sum, count);
      }
  return shrunk;
}

/** RGB values of `height` rows of `width` pixels, with rows and columns exchanged. */
function transpose(values, width, height) {
  const turned = new Uint8Array(values.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let channel = 0; channel < 3; channel++)
        turned[(x * height + y) * 3 + channel] = values[(y * width + x) * 3 + channel];
  return turned;
}

/** A picture of width x height pixels as the model sees it: Uint8Array of side x side x 3, RGB. */
export function toPixels(picture, width, height, side) {
  const [left, top, length] = middle(width, height);
  const rows = shrinkRows(onWhite(picture, left, top, length), length, 4, length, boxes(left, length, side));
  const columns = shrinkRows(transpose(rows, side, length), length, 3, side, boxes(top, length, side));
  return transpose(columns, side, side);
}
