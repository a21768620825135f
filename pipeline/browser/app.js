// The page: pictures from a file, the clipboard, a drop or the camera, and the answer.
import { classes, classify, side } from './classifier.js';

const SHOWN = 5; // classes
const element = id => document.getElementById(id);
const [status, answer, view, list, video] = ['status', 'answer', 'view', 'classes', 'video'].map(element);

/** Classify a Blob or the video, and show the answer or the reason why there is none. */
async function show(source, name) {
  status.textContent = `Classifying ${name} …`;
  try {
    const { pixels, probabilities } = await classify(source);
    drawView(pixels);
    const order = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a]);
    list.replaceChildren(...order.slice(0, SHOWN).map(index => row(classes[index], probabilities[index])));
    answer.hidden = false;
    status.textContent = `${name}: ${classes[order[0]]}, ${percent(probabilities[order[0]])}`;
  } catch (error) {
    answer.hidden = true;
    status.textContent = `${name}: ${error.message}`;
  }
}

const percent = probability => `${(100 * probability).toFixed(1)} %`;

function row(name, probability) {
  const [item, label, bar] = ['li', 'span', 'meter'].map(kind => document.createElement(kind));
  label.textContent = `${name} ${percent(probability)}`;
  bar.value = probability;
  bar.setAttribute('aria-hidden', 'true');
  item.append(label, bar);
  return item;
}

function drawView(pixels) {
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  view.width = view.height = side;
  view.getContext('2d').putImageData(image, 0, 0);
}

const pictures = files => [...files].find(file => file.type.startsWith('image/')) ?? files[0];

element('file').addEventListener('change', event => {
  const [file] = event.target.files;
  if (file) show(file, file.name);
});
addEventListener('paste', event => {
  const file = pictures(event.clipboardData.files);
  if (file) show(file, 'the pasted picture');
  else status.textContent = 'The clipboard has no picture: copy a picture, not its address.';
});
addEventListener('dragover', event => event.preventDefault());
addEventListener('drop', event => {
  event.preventDefault();
  const file = pictures(event.dataTransfer.files);
  if (file) show(file, file.name);
  else status.textContent = 'Nothing was dropped that is a file: save the picture, then drop the file.';
});

element('camera').addEventListener('click', async () => {
  if (video.srcObject) return stopCamera();
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
    await video.play();
    video.hidden = element('shoot').hidden = false;
    element('camera').textContent = 'Stop the camera';
  } catch (error) {
    status.textContent = `No camera: ${error.message}. Browsers give it only to https and localhost, after you allow it.`;
  }
});
element('shoot').addEventListener('click', () => show(video, 'the camera picture'));

function stopCamera() {
  video.srcObject.getTracks().forEach(track => track.stop());
  video.srcObject = null;
  video.hidden = element('shoot').hidden = true;
  element('camera').textContent = 'Use the camera';
}
