// The device's camera. On phones the camera's own program takes better pictures: there a file field opens it.

import { byId, stamp } from "./page.js";

const dialog = byId("camera"), video = byId("camera-video"), devices = byId("camera-device"), hint = byId("camera-hint");

let stream = null;
let shots = [];
let give = () => {};
let texts = {};

/**
 * @param add takes files
 * @param options refused, taken: texts; several: whether several shots belong together
 */
export function wireCamera(add, options) {
  give = add;
  texts = options;
  const phone = matchMedia("(hover: none) and (pointer: coarse)").matches;
  const direct = Boolean(navigator.mediaDevices?.getUserMedia);
  byId("capture-label").hidden = direct && !phone;
  byId("camera-open").hidden = !direct || phone;
  byId("camera-close").addEventListener("click", () => dialog.close());
  byId("camera-take").addEventListener("click", take);
  devices.addEventListener("change", () => start(devices.value));
  dialog.addEventListener("close", () => {
    end();
    if (shots.length) give(shots);
    shots = [];
  });
}

export async function openCamera() {
  hint.dataset.text ??= hint.textContent;
  hint.textContent = hint.dataset.text;
  dialog.showModal();
  await start();
}

async function start(deviceId) {
  end();
  byId("camera-take").disabled = true;
  const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { ...wanted, width: { ideal: 3840 }, height: { ideal: 2160 } } });
  } catch {
    hint.textContent = texts.refused;
    byId("capture-label").hidden = false;
    return;
  }
  if (!dialog.open) { end(); return; } // closed while the permission was asked for
  video.srcObject = stream;
  await video.play().catch(() => {});
  byId("camera-take").disabled = false;
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  byId("camera-choice").hidden = cameras.length < 2;
  const current = stream?.getVideoTracks()[0]?.getSettings().deviceId;
  devices.replaceChildren(...cameras.map((camera, n) => new Option(camera.label || `${n + 1}`, camera.deviceId, false, camera.deviceId === current)));
}

function end() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
}

async function take() {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.95); });
  if (!blob) return;
  shots.push(new File([blob], `camera-${stamp()}.jpg`, { type: "image/jpeg" }));
  if (texts.several()) hint.textContent = texts.taken.replace("{n}", shots.length);
  else dialog.close();
}
