// Drives NiiVue in a patient report: one scan, its components, the lesion that was asked for.
// Nothing is fetched: both files lie in the page. Without WebGL 2 the pictures stay.
"use strict";
(() => {
  // Nothing, other lesions, the chosen lesion: the colours of the key slices.
  const COLOURS = { R: [0, 86, 255], G: [0, 180, 176], B: [0, 233, 0], A: [0, 255, 255] };
  const SEEN = 0.45; // opacity of components: the scan stays visible beneath
  const PLANES = { all: 3, axial: 0, coronal: 1, sagittal: 2 };
  const STEPS = {
    ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], // radiological: the patient's right is left
    ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1], PageDown: [0, 0, -1],
  };

  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("viewer-data").textContent);
  const canvas = byId("viewer-canvas");
  const list = byId("viewer-lesion"); // missing where there is no lesion
  const numbers = list ? [...list.options].map((option) => Number(option.value)) : [];
  let viewer, components, ids, starting, chosen = null;

  // NiiVue shows 0 in the colour of 1 where a label map has many colours, so it gets three.
  function paint() {
    for (let i = 0; i < ids.length; i++) {
      components.img[i] = ids[i] === 0 ? 0 : ids[i] === chosen ? 2 : 1;
    }
    viewer.updateGLVolume();
  }

  function tell(at) {
    const [x, y, z] = at.vox, [, width, height] = components.hdr.dims;
    const slice = at.vox.map((v, axis) => data.offset[axis] + Math.floor((v + 0.5) * data.step[axis]) + 1);
    const id = ids[x + width * (y + height * z)];
    byId("viewer-place").textContent =
      `${id ? `Marked region ${id}` : "Nothing marked"} at the crosshair; sagittal slice ${slice[0]}, ` +
      `coronal ${slice[1]}, axial ${slice[2]}`;
  }

  async function image(base64, name, more) {
    return niivue.NVImage.loadFromBase64({ base64, name, ...more });
  }

  async function start() {
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("this browser has no WebGL 2");
    }
    byId("viewer").classList.add("on"); // the canvas needs its size before it is drawn on
    viewer = new niivue.Niivue({
      logLevel: "error", isRadiologicalConvention: true, sliceType: PLANES.all, multiplanarLayout: 3,
      multiplanarShowRender: 0, tileMargin: 12, crosshairWidth: 1, crosshairWidthUnit: "mm",
      crosshairGap: 8, crosshairColor: [0.55, 0.85, 0.55, 0.9], showAllOrientationMarkers: true,
      fontColor: [1, 1, 1, 1], scrollRequiresFocus: true, dragAndDropEnabled: false,
      loadingText: "", viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
      sagittalNoseLeft: true, show3Dcrosshair: false,
    });
    await viewer.attachToCanvas(canvas);
    const [black, white] = data.window;
    viewer.addVolume(await image(data.scan, "scan.nii.gz", { colormap: "gray", cal_min: black, cal_max: white }));
    components = await image(data.components, "components.nii.gz", { opacity: SEEN });
    ids = components.img.slice();
    components.setColormapLabel(COLOURS);
    viewer.addVolume(components);
    viewer.onLocationChange = tell;
    if (numbers.length) { show(numbers[0]); } else { viewer.createOnLocationChange(); }
  }

  function show(id) {
    chosen = id;
    paint();
    // By voxel: NiiVue's conversion from mm is only roughly right on oblique scans.
    viewer.scene.crosshairPos = data.places[id].map((v, axis) => (v + 0.5) / components.hdr.dims[axis + 1]);
    viewer.createOnLocationChange();
    viewer.drawScene();
    list.value = String(id);
  }

  // Starts once, when it is first needed, so that the page itself opens at once.
  function ready() {
    starting ??= start().catch((error) => {
      byId("viewer").classList.remove("on");
      byId("viewer-fallback").textContent =
        `The viewer cannot be shown (${error.message}). The key slices above show the same scan.`;
      throw error;
    });
    return starting;
  }

  async function go(id) {
    try { await ready(); } catch { return; }
    show(id);
  }

  byId("viewer-mask")?.addEventListener("change", async (event) => {
    await ready();
    components.opacity = event.target.checked ? SEEN : 0;
    viewer.updateGLVolume();
  });
  byId("viewer-plane").addEventListener("change", async (event) => {
    await ready();
    viewer.setSliceType(PLANES[event.target.value]);
  });
  list?.addEventListener("change", () => go(Number(list.value)));
  for (const [button, step] of [["viewer-previous", -1], ["viewer-next", 1]]) {
    byId(button)?.addEventListener("click", () => {
      const at = numbers.indexOf(chosen);
      go(numbers[(at + step + numbers.length) % numbers.length]);
    });
  }
  for (const link of document.querySelectorAll("a[data-lesion]")) {
    link.addEventListener("click", () => go(Number(link.dataset.lesion)));
  }
  canvas.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || !viewer) { return; }
    event.preventDefault();
    event.stopImmediatePropagation();
    viewer.moveCrosshairInVox(...step);
  }, true);
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      ready().catch(() => {});
    }
  }, { rootMargin: "200px" }).observe(byId("viewer"));
})();
