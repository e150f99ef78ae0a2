// The microphone to a WAV file, made here so that every server understands it.

const HEADER = 44;

/** Records until it is stopped, and reports the seconds meanwhile. */
export class Recorder {
  /** @param {Function} progress is called with the seconds recorded so far */
  constructor(progress) {
    this.progress = progress;
    this.active = null;
  }

  get running() {
    return this.active !== null;
  }

  /** Begin; throws the browser's error. */
  async start() {
    if (!navigator.mediaDevices) throw new Error("no secure context");
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    const parts = [];
    const recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    recorder.start();
    const began = performance.now();
    const timer = setInterval(() => this.progress(Math.floor((performance.now() - began) / 1000)), 250);
    this.active = { stream, parts, recorder, timer };
    this.progress(0);
  }

  /** End, and return a WAV file of that name. */
  async stop(name) {
    const { stream, parts, recorder, timer } = this.active;
    this.active = null;
    clearInterval(timer);
    await new Promise((resolve) => {
      recorder.addEventListener("stop", resolve, { once: true });
      recorder.stop();
    });
    for (const track of stream.getTracks()) track.stop();
    const context = new AudioContext({ sampleRate: 48000 });
    try {
      return wav(await context.decodeAudioData(await new Blob(parts).arrayBuffer()), name);
    } finally {
      await context.close();
    }
  }
}

/** Return the first channel of samples as a WAV file of 16 bits. */
function wav(buffer, name) {
  const samples = buffer.getChannelData(0);
  const data = new DataView(new ArrayBuffer(HEADER + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, index) => data.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  data.setUint32(4, data.byteLength - 8, true);
  text(8, "WAVEfmt ");
  data.setUint32(16, 16, true);
  data.setUint16(20, 1, true);
  data.setUint16(22, 1, true);
  data.setUint32(24, buffer.sampleRate, true);
  data.setUint32(28, 2 * buffer.sampleRate, true);
  data.setUint16(32, 2, true);
  data.setUint16(34, 16, true);
  text(36, "data");
  data.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => data.setInt16(HEADER + 2 * index, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new File([data], name, { type: "audio/wav" });
}
