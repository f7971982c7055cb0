"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const player = document.getElementById("player");
const now = document.getElementById("now");
const canvases = [...document.querySelectorAll("canvas:not(.axis)")];
const axes = [...document.querySelectorAll("canvas.axis")];
const length = data.end[data.end.length - 1];
const ratio = () => window.devicePixelRatio || 1;

// Index of the prediction at a time, by bisection.
function indexAt(seconds) {
  let low = 0, high = data.start.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (data.start[middle] <= seconds) low = middle; else high = middle - 1;
  }
  return low;
}

// Fit the bitmap of a canvas to its size on the screen, which also clears it.
function resized(canvas) {
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio()));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio()));
  return canvas.getContext("2d", { willReadFrequently: true });
}

function drawProbabilities(canvas) {
  const context = resized(canvas), width = canvas.width, height = canvas.height;
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

function drawCurve(canvas) {
  const context = resized(canvas), width = canvas.width, height = canvas.height;
  const values = data.dimensions[canvas.dataset.dimension];
  const [low, high] = data.ranges[canvas.dataset.dimension];
  const y = value => height - (value - low) / (high - low) * height;
  const zero = y(Math.min(Math.max(0, low), high));
  context.strokeStyle = "#9aa4ae";
  context.beginPath();
  context.moveTo(0, zero);
  context.lineTo(width, zero);
  context.stroke();
  context.strokeStyle = "#2a5d8f";
  context.lineWidth = 2 * ratio();
  context.beginPath();
  let connected = false;
  values.forEach((value, i) => {
    if (value === null) { connected = false; return; }
    const x = (data.start[i] + data.end[i]) / 2 / length * width;
    if (connected) context.lineTo(x, y(value)); else context.moveTo(x, y(value));
    connected = true;
  });
  context.stroke();
}

// Ticks at round seconds, at most twelve of them.
function drawAxis(canvas) {
  const context = resized(canvas);
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find(s => length / s <= 12) || 7200;
  context.fillStyle = "#5b6773";
  context.font = `${12 * ratio()}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (let i = 0; i * step <= length; i++) {
    const text = `${+(i * step).toFixed(1)} s`, x = i * step / length * canvas.width;
    context.fillRect(Math.min(x, canvas.width - 1), 0, 1, 4 * ratio());
    const left = x - context.measureText(text).width / 2;
    context.fillText(text, Math.min(Math.max(left, 0), canvas.width - context.measureText(text).width), canvas.height);
  }
}

let pictures = [];

function draw() {
  canvases.forEach(canvas => (canvas.dataset.dimension ? drawCurve : drawProbabilities)(canvas));
  axes.forEach(drawAxis);
  pictures = canvases.map(c => c.getContext("2d").getImageData(0, 0, c.width, c.height));
  drawCursor();
}

// Restore the curves, mark the current time in them and show its values as text.
function drawCursor() {
  const seconds = player.currentTime || 0, i = indexAt(seconds);
  canvases.forEach((canvas, c) => {
    const context = canvas.getContext("2d");
    if (pictures[c]) context.putImageData(pictures[c], 0, 0);
    context.fillStyle = "#111";
    context.fillRect(seconds / length * canvas.width - 1, 0, 2 * ratio(), canvas.height);
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
  drawCursor();
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
["timeupdate", "seeked", "loadedmetadata"].forEach(name => player.addEventListener(name, drawCursor));
const pick = document.getElementById("pick");
pick.addEventListener("change", () => {
  if (pick.files.length) player.src = URL.createObjectURL(pick.files[0]);
});
function frame() { if (!player.paused) drawCursor(); requestAnimationFrame(frame); }
window.addEventListener("resize", draw);
draw();
requestAnimationFrame(frame);
