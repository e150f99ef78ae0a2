// The texts of the page in both languages. A value in braces is filled in.

const WORDS = {
  en: {
    title: "clapedge: which sound is it?",
    skip: "Skip to the score button",
    tagline: "Name sounds in your own words, and find out which of them a recording holds.",
    language: "Language",
    recording: "Recording",
    choose: "Choose a recording",
    drop: "or drop it here",
    record: "Record",
    stop: "Stop ({seconds} s)",
    recorded: "recorded {time}.wav",
    noMicrophone: "The microphone cannot be used ({reason}). Allow it in the browser, over https or on this machine, or choose a file.",
    limits: "WAV, MP3, M4A, FLAC, OGG and more, up to {size} and {minutes} minutes",
    clips: "Or try a clip",
    labels: "Labels",
    presets: "Start from",
    yourLabels: "Your labels",
    newLabel: "New label",
    labelPlaceholder: "dog barking, rain …",
    labelHint: "Enter or a comma adds a label. The model reads English: write 犬吠 = a dog barking to see your own words.",
    add: "Add",
    remove: "Remove {name}",
    edit: "Edit {name}",
    hidden: "takes its share of probability, is not shown",
    options: "Span and window",
    window: "Which part",
    windowFirst: "the first 10 seconds",
    windowSlide: "all of it, the mean of many clips",
    windowFuse: "all of it at once, fused",
    start: "from (seconds)",
    duration: "for (seconds)",
    durationAll: "all",
    score: "Score",
    scoring: "Listening …",
    answer: "What it sounds like",
    empty: "Choose a recording and name a few sounds.",
    sure: "{name}",
    unsure: "Unsure: {name} or {other}",
    unknown: "None of these (nearest: {name})",
    certainty: "{percent} of the probability among your labels",
    scores: "Scores, best first",
    similarity: "similarity {value}",
    facts: "heard {start}–{end} s of {of} s · {ms} ms · {model} · {variant} on {provider}",
    partial: "Only {start} to {end} s decided this. To use all of it, choose another window under “Span and window”.",
    heardSpan: "heard",
    waveformText: "Waveform of {of} seconds; heard from {start} to {end} s",
    melText: "Log-mel picture, 50 Hz to 14 kHz; heard from {start} to {end} s",
    figureHint: "Drag over the picture to score only that part; the fields under “Span and window” do the same.",
    timeline: "Timeline",
    timelineHint: "Each row is a label: the area is its probability over time, the bar under it where it counts as present.",
    timelineText: "Timeline of {count} labels over {of} seconds; the table below holds the same",
    progress: "How much of the recording is scored",
    events: "Events",
    event: "sound",
    from: "from",
    to: "to",
    probability: "probability",
    playEvent: "Play {name} at {time}",
    noEvents: "No label is present long and clearly enough to be an event.",
    copyAs: "Do it in a program",
    code: "Code",
    copy: "Copy",
    copied: "Copied.",
    history: "History",
    historyHint: "Kept in this browser, without the recordings.",
    forget: "Forget all",
    privacy: "Recordings go to this server only, and are not kept. Nothing leaves it.",
    api: "HTTP interface (OpenAPI)",
    demoWeights: "This is the small built-in demo model: it knows a few dozen sounds. Serve a bundle of a pretrained model for real use.",
    randomWeights: "The weights of this model are random: its scores mean nothing.",
    noLabels: "There are no labels yet. Write at least one sound, or start from a set.",
    taughtLeft: "Sounds that clips taught go with their set alone: they were left out. Choose the set again to have them.",
    noRecording: "There is no recording yet. Choose one, record one, or try a clip.",
    tooLarge: "{name} has {found}, and this server takes {size} at most. Choose a shorter or a compressed one.",
    tooLong: "This recording cannot be used as it is: {detail}",
    damaged: "This recording cannot be read: {detail}",
    refused: "The request was not understood: {detail}",
    denied: "This server asks for an API key: load the page again and give the key as the password.",
    crowded: "The server has more to do than it can. Try again in {seconds} s.",
    failed: "The server failed: {detail}",
    unreachable: "The server does not answer. See whether it still runs, then try again.",
    adviceTitle: "Advice",
    fewLabels: "Few labels: they share all of the probability, so a sound that is none of them goes to one of them. Write what else may sound there.",
    addBackground: "Add a hidden background",
    background: "background",
  },
  zh: {
    title: "clapedge：这是什么声音？",
    skip: "跳到“开始识别”按钮",
    tagline: "用自己的话写下几种声音，看看录音里是哪一种。",
    language: "语言",
    recording: "录音",
    choose: "选择录音文件",
    drop: "或拖放到这里",
    record: "录音",
    stop: "停止（{seconds} 秒）",
    recorded: "现场录音 {time}.wav",
    noMicrophone: "无法使用麦克风（{reason}）。请在浏览器中允许使用，并通过 https 或本机访问；也可以选择文件。",
    limits: "支持 WAV、MP3、M4A、FLAC、OGG 等，最大 {size}，最长 {minutes} 分钟",
    clips: "或者试试示例",
    labels: "标签",
    presets: "从一组标签开始",
    yourLabels: "你的标签",
    newLabel: "新标签",
    labelPlaceholder: "犬吠，雨声 …",
    labelHint: "回车或逗号添加。模型只懂英文：写“名称 = 英文描述”，例如 犬吠 = a dog barking；常见中文词会自动配好英文。",
    add: "添加",
    remove: "删除 {name}",
    edit: "修改 {name}",
    hidden: "参与概率分配，但不显示",
    options: "片段与取样方式",
    window: "听哪一部分",
    windowFirst: "前 10 秒",
    windowSlide: "全部，多个片段取平均",
    windowFuse: "全部，融合成一次",
    start: "起点（秒）",
    duration: "时长（秒）",
    durationAll: "全部",
    score: "开始识别",
    scoring: "正在听 …",
    answer: "听起来像",
    empty: "选择一段录音，再写几种声音。",
    sure: "{name}",
    unsure: "不确定：{name} 还是 {other}",
    unknown: "都不是（最接近：{name}）",
    certainty: "在你的标签中占 {percent} 的概率",
    scores: "得分，从高到低",
    similarity: "相似度 {value}",
    facts: "听了 {start}–{end} 秒，全长 {of} 秒 · {ms} 毫秒 · {model} · {variant} · {provider}",
    partial: "以上结果只听了 {start} 到 {end} 秒。要听全部，请在“片段与取样方式”里换一种方式。",
    heardSpan: "已听",
    waveformText: "{of} 秒的波形；听了 {start} 到 {end} 秒",
    melText: "对数梅尔谱，50 Hz 到 14 kHz；听了 {start} 到 {end} 秒",
    figureHint: "在图上拖动，只听那一段；“片段与取样方式”里的输入框作用相同。",
    timeline: "时间线",
    timelineHint: "每行一个标签：面积是随时间变化的概率，下方色条是判定为听到的时段。",
    timelineText: "{of} 秒内 {count} 个标签的时间线；下面的表格内容相同",
    progress: "已听的进度",
    events: "事件",
    event: "声音",
    from: "开始",
    to: "结束",
    probability: "概率",
    playEvent: "播放 {time} 处的 {name}",
    noEvents: "没有哪个标签足够清楚、足够长，算不上事件。",
    copyAs: "在程序里使用",
    code: "代码",
    copy: "复制",
    copied: "已复制。",
    history: "历史",
    historyHint: "只存在这个浏览器里，不含录音。",
    forget: "全部清除",
    privacy: "录音只发送到这台服务器，不会保存，也不会传到别处。",
    api: "HTTP 接口（OpenAPI）",
    demoWeights: "这是内置的小型演示模型，只认识几十种声音。正式使用请换上预训练模型的 bundle。",
    randomWeights: "这个模型的权重是随机的，得分没有意义。",
    noLabels: "还没有标签。请至少写一种声音，或从一组标签开始。",
    taughtLeft: "由录音片段教会的声音只能随整组使用，已从列表中去掉。如需使用，请重新选择该组。",
    noRecording: "还没有录音。请选择文件、现场录音，或试试示例。",
    tooLarge: "{name} 有 {found}，而服务器最多接受 {size}。请选择更短的或压缩过的录音。",
    tooLong: "这段录音不能直接使用：{detail}",
    damaged: "无法读取这段录音，文件可能已损坏或不是音频：{detail}",
    refused: "服务器不理解这个请求：{detail}",
    denied: "服务器需要 API 密钥：请重新打开页面，并以密钥作为密码登录。",
    crowded: "服务器太忙，请在 {seconds} 秒后再试。",
    failed: "服务器出错：{detail}",
    unreachable: "服务器没有回应。请确认它还在运行，然后再试。",
    adviceTitle: "建议",
    fewLabels: "标签太少：概率全由它们分配，别的声音也会被归给其中一个。请写上现场还可能听到什么。",
    addBackground: "加一个不显示的“背景”",
    background: "背景",
  },
};

// The checker's advice is in English; these are the same rules in Chinese.
const ADVICE = {
  count: "标签太多：3 到 7 个最容易分清。请合并不必区分的，或分成几组。",
  duplicate: "两个标签用词相同，会平分概率。请删去一个，或写出它们的区别。",
  close: "两个标签在模型看来几乎一样，先后只凭运气。请写出只有其中一个才有的特点（声源、材质、节奏、音高）。",
  language: "模型只学过英文。请保留你的词作名称，并用英文描述声音：犬吠 = a dog barking。",
  code: "代号和缩写没有声音。请写出全称，或写听起来像什么。",
  long: "描述太长，后面的部分不会被读到。请用 3 到 12 个英文词写一句话。",
  state: "这是状态，不是声音。请描述凭什么听出来，例如 a bearing grinding and squealing。",
  vague: "这几个词说不出声源。请写没有别的声音时听到什么，例如 quiet room tone。",
  negation: "模型会忽略否定词，反而去听那个声音。请写实际听到什么，例如 quiet room tone。",
};

const PRESETS = {
  en: { null: "Demo", home: "Home", industrial: "Industry", city: "City", wildlife: "Wildlife" },
  zh: { null: "演示", home: "家居", industrial: "工业", city: "城市", wildlife: "野外" },
};

let current = "en";

/** Return the language that the user chose before, else the first of the browser's that the page speaks. */
export function preferred() {
  const kept = localStorage.getItem("clapedge.language");
  const wished = [kept, ...navigator.languages].filter(Boolean).map((tag) => tag.slice(0, 2).toLowerCase());
  return wished.find((tag) => tag in WORDS) ?? "en";
}

/** Return a text in the current language, with its braces filled in. */
export function translate(key, values = {}) {
  return WORDS[current][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Return what a label set is called; one that the page does not know has its own name. */
export const presetName = (name) => PRESETS[current][name] ?? name;

export const language = () => current;

/** Return a piece of the checker's advice in the current language. */
export const adviceText = (advice) =>
  current === "zh" && ADVICE[advice.rule]
    ? `${advice.labels.map((name) => `“${name}”`).join("、")}${advice.labels.length ? "：" : ""}${ADVICE[advice.rule]}`
    : `${advice.labels.join(", ")}${advice.labels.length ? ": " : ""}${advice.found}. ${upper(advice.better)}.`;

const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Show the page in a language. */
export function setLanguage(chosen, root) {
  current = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  document.title = translate("title");
  for (const node of root.querySelectorAll("[data-words]")) node.textContent = translate(node.dataset.words);
  for (const node of root.querySelectorAll("[data-words-label]")) node.setAttribute("aria-label", translate(node.dataset.wordsLabel));
  for (const node of root.querySelectorAll("[data-words-placeholder]")) node.placeholder = translate(node.dataset.wordsPlaceholder);
  for (const node of root.querySelectorAll("[data-language]")) {
    node.setAttribute("aria-pressed", String(node.dataset.language === chosen));
  }
}
