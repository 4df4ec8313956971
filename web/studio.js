const $ = id => document.getElementById(id)
const IDEAS = ["a small green tree at night", "a yellow star above a blue boat", "a pink fish on a green background",
  "a red house to the left of a purple flower"]
const CONTROLS = {"/prompt": "prompt", "/num_inference_steps": "steps", "/seed": "seed", "/width": "size", "/height": "size",
  "/num_images": "count", "/guidance_scale": "guidance", "/sampler": "sampler", "/negative_prompt": "negative",
  "/image": "picture", "/mask": "picture", "/size": "picture", "/content_type": "picture", "/control": "use",
  "/strength": "strength"}
const LONGEST_SIDE = 1024  // of a painted mask, in pixels
let model = null, job = null, shown = null, cancelled = false
let brush = null, painted = false

const headers = extra => ({...($("key").value ? {"x-api-key": $("key").value} : {}), ...extra})

/* The answer's JSON; a problem (RFC 9457) is thrown. */
async function call(path, options = {}) {
  const answer = await fetch(path, {...options, headers: headers(options.headers)})
  const told = await answer.json()
  if (!answer.ok) throw told
  return told
}

async function describe() {
  model = await call("/v1/models/m")
  const {limits, defaults} = model
  $("model").textContent = `${model.name} · ${model.targets[0].precision}`
  $("model").title = `version ${model.version}`
  $("steps").max = model.max_steps
  $("steps").value = defaults.num_inference_steps
  $("guidance").value = defaults.guidance_scale
  $("sampler").replaceChildren(...model.samplers.map(name => new Option(name, name, false, name === defaults.sampler)))
  const sides = [limits.min_size, defaults.width, defaults.width * 1.5, defaults.width * 2]
  const sizes = [...new Set(sides.flatMap(side => [`${side}x${side}`, `${side}x${side / 2}`, `${side / 2}x${side}`]))]
    .map(size => size.split("x").map(Number))
    .filter(([w, h]) => [w, h].every(side => side % limits.multiple_of === 0 && side >= limits.min_size && side <= limits.max_size)
      && w * h <= limits.max_pixels)
    .sort((a, b) => a[0] * a[1] - b[0] * b[1] || b[0] - a[0])
  $("size").replaceChildren(...sizes.map(([w, h]) =>
    new Option(`${w} × ${h}`, `${w}x${h}`, false, w === defaults.width && h === defaults.height)))
  offer()
  tell()
}

/* What a picture can be for is what the model was built with. */
function offer() {
  const uses = model.controls.map(type => [`control:${type}`, type === "canny" ? "Keep its edges" : `ControlNet: ${type}`])
  if (model.image_to_image) uses.push(["again", "Draw it again"], ["part", "Draw a part of it again"])
  $("use").replaceChildren(...uses.map(([use, said]) => new Option(said, use)))
  $("from").hidden = !uses.length
}

function easel() {
  const file = $("picture").files[0], use = file ? $("use").value : ""
  for (const part of document.querySelectorAll(".with-picture")) part.hidden = !file
  $("mask").hidden = $("paint").hidden = use !== "part"
  $("how-much").hidden = use !== "again" && use !== "part"
  tell()
}

/* A mask as large as the picture, and empty. */
function wipe() {
  const {naturalWidth: width, naturalHeight: height} = $("given")
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height))
  Object.assign($("mask"), {width: Math.round(width * scale), height: Math.round(height * scale)})
  painted = false
}

/* Where a pointer is on the mask, in its pixels. */
function placed(event) {
  const {left, top, width, height} = $("mask").getBoundingClientRect()
  return [(event.clientX - left) * $("mask").width / width, (event.clientY - top) * $("mask").height / height]
}

function paint(event) {
  if (!brush) return
  const canvas = $("mask"), pen = canvas.getContext("2d"), at = placed(event)
  painted = true
  Object.assign(pen, {strokeStyle: "#2f7bff", lineCap: "round", lineWidth: Math.max(canvas.width, canvas.height) / 8})
  pen.beginPath()
  pen.moveTo(...brush)
  pen.lineTo(...at)
  pen.stroke()
  brush = at
}

/* What is painted, white on black, as a PNG. */
function mask() {
  const {width, height} = $("mask")
  const copy = Object.assign(document.createElement("canvas"), {width, height}), pen = copy.getContext("2d")
  pen.drawImage($("mask"), 0, 0)
  pen.globalCompositeOperation = "source-in"
  pen.fillStyle = "#fff"
  pen.fillRect(0, 0, width, height)
  pen.globalCompositeOperation = "destination-over"
  pen.fillStyle = "#000"
  pen.fillRect(0, 0, width, height)
  return new Promise(resolve => copy.toBlob(resolve))
}

/* Send a file ahead of the request that names it. */
async function upload(file) {
  const body = JSON.stringify({size: file.size, content_type: file.type})
  const place = await call("/v1/uploads", {method: "POST", body, headers: {"Content-Type": "application/json"}})
  const sent = await fetch(place.url, {method: place.method, body: file, headers: {"Content-Type": file.type}})
  if (!sent.ok) throw {detail: "The picture could not be sent; try again.", field: "/image"}
  return place.upload
}

async function withPicture(request) {
  const file = $("picture").files[0], use = $("use").value
  if (!file) return request
  if (use === "part" && !painted) throw {detail: "Paint over what is to be drawn again first.", field: "/mask"}
  const image = await upload(file)
  if (use.startsWith("control:")) return {...request, image, control: {type: use.slice("control:".length)}}
  const again = {...request, image, strength: Number($("strength").value)}
  return use === "part" ? {...again, mask: await upload(await mask())} : again
}

function tell() {
  $("strength-told").textContent = `${Math.round(100 * $("strength").value)} %`
  $("steps-told").textContent = $("steps").value
  $("guidance-told").textContent = Number($("guidance").value).toFixed(1)
}

/* What the form asks for; members that say what is the default anyway are left out. */
function asked() {
  const [width, height] = $("size").value.split("x").map(Number)
  const request = {prompt: $("prompt").value}
  const defaults = model ? model.defaults : {}
  const differs = {width, height, num_inference_steps: Number($("steps").value),
    guidance_scale: Number($("guidance").value), sampler: $("sampler").value}
  for (const [name, value] of Object.entries(differs)) if (value && value !== defaults[name]) request[name] = value
  if ($("guidance").value === "0") request.guidance_scale = 0
  if ($("negative").value) request.negative_prompt = $("negative").value
  if ($("count").value !== "1") request.num_images = Number($("count").value)
  if ($("seed").value.trim()) request.seed = /^-?\d{1,15}$/.test($("seed").value.trim()) ? Number($("seed").value) : $("seed").value
  return request
}

const quoted = text => `'${text.replaceAll("'", `'\\''`)}'`

function curl(request, name) {
  const key = $("key").value ? " -H 'x-api-key: YOUR_KEY'" : ""
  return `curl -X POST ${location.origin}/v1/models/${name}:predict${key} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(request))}`
}

function explain(problem) {
  for (const id of Object.values(CONTROLS)) $(id).removeAttribute("aria-invalid")
  $("problem").textContent = problem ? problem.detail || "The API cannot be reached; is it still running?" : ""
  const control = problem && CONTROLS[problem.field]
  if (control) {
    $(control).setAttribute("aria-invalid", "true")
    $(control).closest("details")?.setAttribute("open", "")
    $(control).focus()
  }
  if (problem?.status === 401) { $("more").open = true; $("key").focus() }
}

function working(now) {
  $("go").disabled = now
  $("go").textContent = now ? "Developing …" : "Develop"
  $("cancel").hidden = $("bar").hidden = !now
  $("bar").value = 0
  $("tray").classList.toggle("developing", now)
}

function hang(urls, alt) {
  $("tray").classList.toggle("many", urls.length > 1)
  $("tray").replaceChildren(...urls.map(url => Object.assign(new Image(), {src: url, alt})))
}

/* Server-sent events through fetch, which unlike EventSource can send an API key. */
async function* events(path) {
  const answer = await fetch(path, {headers: headers({Accept: "text/event-stream"})})
  if (!answer.ok) throw await answer.json()
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  for (let text = ""; ;) {
    const {value, done} = await reader.read()
    if (done) return
    const blocks = (text + value).split("\n\n")
    text = blocks.pop()
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block), data = /^data: (.*)$/m.exec(block)
      if (name && data) yield [name[1], JSON.parse(data[1])]
    }
  }
}

/* Follow a job to its end; a stream that breaks off, or a deployment that only tells snapshots, is asked again. */
async function follow(id, request) {
  for (;;) {
    for await (const [name, told] of events(`/v1/jobs/${id}/events`)) {
      if (name === "finished") return told
      if (told.preview) hang([told.preview], `${request.prompt}, unfinished`)
      if (told.steps) $("bar").value = told.step / told.steps
      $("status").textContent = told.step ? `Step ${told.step} of ${told.steps}` : "Waiting for a place"
    }
    await new Promise(resolve => setTimeout(resolve, 1000))
  }
}

async function develop() {
  let request = asked()
  explain(null)
  cancelled = false
  working(true)
  $("status").textContent = "Sending"
  $("recipe").hidden = true
  $("tray").replaceChildren()
  if (matchMedia("(max-width: 859px)").matches) $("stage").scrollIntoView({behavior: "smooth"})
  try {
    request = await withPicture(request)
    const body = JSON.stringify(request)
    job = await call("/v1/models/m:predict", {method: "POST", body, headers: {"Content-Type": "application/json", Prefer: "respond-async"}})
    const done = await follow(job.id, request)
    if (!done.images) throw done.error
    working(false)
    keep({done, request: {...request, seed: done.seed}})
  } catch (problem) {
    working(false)
    $("status").textContent = cancelled ? "Cancelled" : ""
    $("tray").replaceChildren(Object.assign(document.createElement("p"), {textContent: "Nothing was made."}))
    if (!cancelled) explain(problem)
  }
  job = null
}

function keep(made) {
  const button = document.createElement("button")
  button.type = "button"
  button.append(Object.assign(new Image(), {src: made.done.images[0], alt: made.request.prompt}))
  button.addEventListener("click", () => show(made))
  made.button = button
  const item = document.createElement("li")
  item.append(button)
  $("shelf").prepend(item)
  $("shelf").hidden = $("shelf").children.length < 2
  show(made)
}

async function show(made) {
  shown = made
  for (const button of $("shelf").querySelectorAll("button")) button.setAttribute("aria-current", button === made.button)
  const {done, request} = made
  hang([...done.images, ...(done.control_images || [])], request.prompt)
  const warnings = (done.warnings || []).map(warning => ` · ${warning.detail}`).join("")
  $("status").textContent = `Seed ${done.seed} · ${done.timings.total.toFixed(1)} s · ${done.target}${warnings}`
  $("curl").textContent = curl(request, done.model)
  $("recipe").hidden = false
  $("reuse").disabled = false
}

$("form").addEventListener("submit", event => { event.preventDefault(); if (!$("go").disabled) develop() })
$("form").addEventListener("input", tell)
$("form").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) $("form").requestSubmit()
})
$("picture").addEventListener("change", () => {
  URL.revokeObjectURL($("given").src)
  if ($("picture").files[0]) $("given").src = URL.createObjectURL($("picture").files[0])
  easel()
})
$("given").addEventListener("load", wipe)
$("given").addEventListener("error", () => explain({detail: "This file is not a picture that can be shown.", field: "/image"}))
$("use").addEventListener("change", () => {
  $("strength").value = $("use").value === "part" ? 1 : 0.8
  easel()
})
$("wipe").addEventListener("click", wipe)
$("forget").addEventListener("click", () => { $("picture").value = ""; easel() })
$("mask").addEventListener("pointerdown", event => {
  brush = placed(event)
  $("mask").setPointerCapture(event.pointerId)
  paint(event)
})
$("mask").addEventListener("pointermove", paint)
$("mask").addEventListener("pointerup", () => { brush = null })
$("key").addEventListener("change", () => describe().then(() => explain(null), explain))
$("reuse").addEventListener("click", () => { if (shown) $("seed").value = shown.done.seed })
$("cancel").addEventListener("click", async () => {
  if (!job) return
  cancelled = true
  await call(`/v1/jobs/${job.id}/cancel`, {method: "POST"}).catch(() => { cancelled = false })
})
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent)
    $("copy").textContent = "Copied"
  } catch {
    getSelection().selectAllChildren($("curl"))
    $("copy").textContent = "Selected"
  }
  setTimeout(() => { $("copy").textContent = "Copy" }, 2000)
})
for (const idea of IDEAS) {
  const button = Object.assign(document.createElement("button"), {type: "button", textContent: idea})
  button.addEventListener("click", () => { $("prompt").value = idea; $("prompt").focus() })
  document.querySelector(".ideas").append(button)
}
tell()
describe().catch(explain)
