"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const player = document.getElementById("player");
const now = document.getElementById("now");
const canvases = [...document.querySelectorAll("canvas")];
const length = data.end[data.end.length - 1];

function step(seconds) {
  let low = 0, high = data.start.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (data.start[middle] <= seconds) low = middle; else high = middle - 1;
  }
  return low;
}

function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  return canvas.getContext("2d", { willReadFrequently: true });
}

function bands(canvas) {
  const context = sized(canvas), width = canvas.width, height = canvas.height;
  data.start.forEach((start, i) => {
    const left = start / length * width, right = data.end[i] / length * width;
    let top = 0;
    data.probabilities[i].forEach((share, e) => {
      if (share === null) return;
      context.fillStyle = data.colours[e];
      context.fillRect(left, top * height, right - left + 1, share * height + 1);
      top += share;
    });
  });
}

function curve(canvas) {
  const context = sized(canvas), width = canvas.width, height = canvas.height;
  const values = data.dimensions[canvas.dataset.dimension];
  const [low, high] = data.ranges[canvas.dataset.dimension];
  const place = value => height - (value - low) / (high - low) * height;
  context.strokeStyle = "#9aa4ae";
  context.beginPath();
  context.moveTo(0, place(Math.min(Math.max(0, low), high)));
  context.lineTo(width, place(Math.min(Math.max(0, low), high)));
  context.stroke();
  context.strokeStyle = "#2a5d8f";
  context.lineWidth = 2 * (window.devicePixelRatio || 1);
  context.beginPath();
  let pen = false;
  values.forEach((value, i) => {
    if (value === null) { pen = false; return; }
    const x = (data.start[i] + data.end[i]) / 2 / length * width;
    if (pen) context.lineTo(x, place(value)); else context.moveTo(x, place(value));
    pen = true;
  });
  context.stroke();
}

let pictures = [];

function draw() {
  canvases.forEach(canvas => (canvas.dataset.dimension ? curve : bands)(canvas));
  pictures = canvases.map(c => c.getContext("2d").getImageData(0, 0, c.width, c.height));
  mark();
}

function mark() {
  const seconds = player.currentTime || 0, i = step(seconds);
  canvases.forEach((canvas, c) => {
    const context = canvas.getContext("2d");
    if (pictures[c]) context.putImageData(pictures[c], 0, 0);
    context.fillStyle = "#111";
    context.fillRect(seconds / length * canvas.width - 1, 0, 2 * (window.devicePixelRatio || 1), canvas.height);
    canvas.setAttribute("aria-valuenow", seconds.toFixed(1));
  });
  const row = data.probabilities[i] || [];
  const best = row.reduce((found, share, e) => (share !== null && (found < 0 || share > row[found]) ? e : found), -1);
  const parts = [seconds.toFixed(1) + " s"];
  if (best >= 0) parts.push(data.emotions[best] + " " + row[best].toFixed(2));
  Object.keys(data.dimensions).forEach(name => {
    const value = data.dimensions[name][i];
    if (value !== null && value !== undefined) parts.push(name + " " + value.toFixed(2));
  });
  now.textContent = parts.join(" · ");
}

function seek(seconds) {
  player.currentTime = Math.min(Math.max(seconds, 0), length);
  mark();
}

canvases.forEach(canvas => {
  canvas.addEventListener("click", event => {
    const box = canvas.getBoundingClientRect();
    seek((event.clientX - box.left) / box.width * length);
  });
  canvas.addEventListener("keydown", event => {
    if (event.key === "ArrowRight") seek((player.currentTime || 0) + 1);
    if (event.key === "ArrowLeft") seek((player.currentTime || 0) - 1);
  });
});
player.addEventListener("timeupdate", mark);
player.addEventListener("seeked", mark);
player.addEventListener("loadedmetadata", mark);
const pick = document.getElementById("pick");
pick.addEventListener("change", () => {
  if (pick.files.length) player.src = URL.createObjectURL(pick.files[0]);
});
function frame() { if (!player.paused) mark(); requestAnimationFrame(frame); }
window.addEventListener("resize", draw);
draw();
requestAnimationFrame(frame);
