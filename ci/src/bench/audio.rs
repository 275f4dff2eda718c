//! The sound of a call: what is heard over bad networks, what is left of an echo, and what it costs. The speech is made by
//! espeak-ng and the measuring is done by `client-core/audio/examples/measure`; PESQ and ESTOI come from Python packages
//! in the user's cache folder, and where those cannot be had the tables go without them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::native::build_example;
use crate::needs;
use crate::run::{cache, command, output, root, target_dir};

/// Two voices: whoever is listened to, and the other end.
const NEAR: (&str, &str) = (
    "en-us",
    "The relay knows nothing of what we say. Each of us sends one small picture to the others, and the voice comes first. \
     When the network loses packets, every packet repeats the one before it, so that a word is still heard. Please call me \
     back before seven, the train leaves the station at half past eight. A large crowd watched quietly as the old ship was \
     pulled out of the harbour. She bought fresh oranges, brown bread and a bottle of milk on her way home.",
);
const FAR: (&str, &str) = (
    "en-gb+f3",
    "Good morning, this is the other end. We met on Tuesday to talk about the garden behind the house. The fence is broken, \
     the apple tree has to be cut, and nobody remembers who owns the ladder. Could you send me the list of things that are \
     still missing? I think that four chairs and a long table will do. If it rains, we can move everything into the hall.",
);
/// Python packages, at fixed versions.
const FIRST: [&str; 4] = ["setuptools==80.9.0", "wheel==0.45.1", "cython==3.1.4", "numpy==2.3.3"];
const THEN: [&str; 2] = ["pesq==0.0.4", "pystoi==0.4.1"];

/// Values of one line of `measure`, and scores by file name.
type Line = BTreeMap<String, String>;
type Scores = BTreeMap<String, (f64, f64)>;

pub(crate) fn run(smoke: bool) -> Result<String> {
    let folder = target_dir().join("bench-audio");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let (near, far) = (speech(&folder, "near", NEAR)?, speech(&folder, "far", FAR)?);
    // A debug build measures the quality just as well; only its CPU figures mean nothing.
    let program = build_example("snug-audio", "measure", smoke)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let measure = |words: &[&str]| -> Result<Vec<(String, Line)>> {
        Ok(lines(&output(command(&text(&program), words))?))
    };
    let how = if smoke { "quick" } else { "full" };
    let networks = measure(&["network", &text(&near), &text(&folder), how])?;
    let echoes = measure(&["echo", &text(&far), &text(&near), &text(&folder), how])?;
    let costs = measure(&["cpu", &text(&near), if smoke { "3" } else { "20" }])?;
    let (python, without) = match tools() {
        Ok(python) => (Some(python), String::new()),
        Err(error) if needs::is_ci(std::env::var("CI").ok().as_deref()) => {
            return Err(error.context("CI is set, and sound cannot be scored"));
        }
        Err(error) => (None, format!("\nPESQ and ESTOI were not measured: {error:#}.\n")),
    };
    let heard = score(python.as_deref(), &folder, "reference.wav", "whole", &networks)?;
    let spoken = score(python.as_deref(), &folder, "near.wav", "near", &echoes)?;
    let both = score(python.as_deref(), &folder, "near.wav", "both", &echoes)?;
    Ok(format!(
        "## Sound (`cargo ci bench audio`)\n{without}\n{}\n{}\n{}",
        network_table(&networks, &heard),
        echo_table(&echoes, &spoken, &both),
        cost_table(&networks, &echoes, &costs)
    ))
}

/// Mono WAV of 48 kHz.
fn speech(folder: &Path, name: &str, (voice, words): (&str, &str)) -> Result<PathBuf> {
    let path = |suffix: &str| folder.join(format!("{name}{suffix}.wav")).to_string_lossy().into_owned();
    let (raw, full) = (path("-22050"), path("-speech"));
    output(command("espeak-ng", &["-v", voice, "-s", "150", "-w", &raw, words]))
        .context("speech is made by espeak-ng: apt-get install espeak-ng")?;
    let format = ["-ac", "1", "-ar", "48000", "-c:a", "pcm_s16le", "-af", "volume=-3dB", &full];
    output(command("ffmpeg", &[&["-y", "-loglevel", "error", "-i", &raw][..], &format[..]].concat()))
        .context("its rate is changed by FFmpeg: apt-get install ffmpeg")?;
    Ok(full.into())
}

fn lines(text: &str) -> Vec<(String, Line)> {
    text.lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let name = fields.next().unwrap_or_default().to_owned();
            let values = fields.filter_map(|field| field.split_once('='));
            (name, values.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
        })
        .collect()
}

/// A Python with the packages, made once.
fn tools() -> Result<String> {
    let place = cache().context("neither HOME nor XDG_CACHE_HOME is set")?.join("speech-scores");
    let python = place.join("bin/python").to_string_lossy().into_owned();
    let works = || output(command(&python, &["-c", "import pesq, pystoi"])).is_ok();
    if place.exists() && works() {
        return Ok(python);
    }
    let _ = std::fs::remove_dir_all(&place);
    output(command("python3", &["-m", "venv", &place.to_string_lossy()]))
        .context("python3 makes no environment: apt-get install python3-venv python3-dev")?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    output(command(&python, &[&pip[..], &FIRST[..]].concat())).context("pip cannot install numpy")?;
    let plain = ["--no-build-isolation"];
    output(command(&python, &[&pip[..], &plain[..], &THEN[..]].concat()))
        .context("pip cannot build pesq: apt-get install gcc python3-dev")?;
    anyhow::ensure!(works(), "the packages pesq and pystoi cannot be imported");
    Ok(python)
}

/// PESQ-wb and ESTOI of every file against the reference.
fn score(
    python: Option<&str>,
    folder: &Path,
    reference: &str,
    part: &str,
    lines: &[(String, Line)],
) -> Result<Scores> {
    let Some(python) = python else { return Ok(Scores::new()) };
    let script = root().join("ci/bench/audio/score.py").to_string_lossy().into_owned();
    let folder = folder.to_string_lossy().into_owned();
    let mut words = vec![script.as_str(), folder.as_str(), reference, part];
    words.extend(lines.iter().filter_map(|(_, line)| line.get("wav")).map(String::as_str));
    let text = output(command(python, &words))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?.to_owned();
            Some((name, (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)))
        })
        .collect())
}

fn number(line: &Line, key: &str) -> f64 {
    line.get(key).and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { f64::NAN } else { sum / f64::from(count) }
}

/// "–" for what was not measured.
fn shown(value: f64, digits: usize) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.digits$}") }
}

fn network_table(lines: &[(String, Line)], scores: &Scores) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for (name, line) in lines {
        if !order.contains(&name.as_str()) {
            order.push(name);
        }
        by_name.entry(name).or_default().push(line);
    }
    let of = |name: &str| -> [f64; 5] {
        let lines = by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        let score = |line: &Line| line.get("wav").and_then(|wav| scores.get(wav)).copied();
        [
            mean(lines.iter().filter_map(|line| score(line)).map(|score| score.0)),
            mean(lines.iter().filter_map(|line| score(line)).map(|score| score.1)),
            mean(lines.iter().map(|line| number(line, "delay"))),
            mean(lines.iter().map(|line| number(line, "delay95"))),
            mean(lines.iter().map(|line| number(line, "concealed"))),
        ]
    };
    let mut table = String::from(
        "| network | PESQ-wb / ESTOI | fixed buffer of 120 ms, Opus' own repair | buffer's delay, mean / 95 % | concealed | goal | |\n|---|---|---|---|---|---|---|\n",
    );
    let codec = of("codec");
    table +=
        &format!("| none, the codec alone | {} / {} | | | | | |\n", shown(codec[0], 2), shown(codec[1], 3));
    for name in order.iter().filter_map(|name| name.strip_prefix("ours: ")) {
        let (ours, fixed) = (of(&format!("ours: {name}")), of(&format!("fixed: {name}")));
        let goal = match name {
            "jitter 50 ms, 5 % loss" => Some(3.2),
            "20 % loss" | "jitter 50 ms, 20 % loss" => Some(2.6),
            _ => None,
        };
        let met = match goal {
            Some(goal) if ours[0] >= goal => "met",
            Some(_) if ours[0] < f64::INFINITY => "**missed**",
            _ => "",
        };
        table += &format!(
            "| {name} | **{}** / {} | {} / {} | {} / {} ms | {} % | {} | {met} |\n",
            shown(ours[0], 2),
            shown(ours[1], 3),
            shown(fixed[0], 2),
            shown(fixed[1], 3),
            shown(ours[2], 0),
            shown(ours[3], 0),
            shown(ours[4], 1),
            goal.map(|goal| format!("≥ {goal}")).unwrap_or_default()
        );
    }
    table
        + "\nLoss comes in bursts (mean 1.5 packets), jitter is even between 0 and 50 ms, so that packets overtake each other; mean of three \
             seeds (one in the quick form). What is sent follows the loss as in a call: from 2 % on each packet repeats one frame, from 8 % on two at 24 kbit/s. \
             The speech is synthetic: compare the figures among themselves only.\n"
}

fn echo_table(lines: &[(String, Line)], near: &Scores, both: &Scores) -> String {
    let phases = ["0.3-1 s", "4-16 s", "path changed, 0.2-2 s", "path changed, 4-8 s", "41-48 s"];
    let mut table = String::from("| what is done, echo against the near end | ");
    table += &phases.map(|phase| format!("ERLE {phase}")).join(" | ");
    table += " | near end only: level, PESQ / ESTOI | both speak: level, ESTOI |\n|---|---|---|---|---|---|---|---|\n";
    for (name, line) in lines {
        let Some(name) = name.strip_prefix("echo: ") else { continue };
        let score = |scores: &Scores| {
            line.get("wav").and_then(|wav| scores.get(wav)).copied().unwrap_or((f64::NAN, f64::NAN))
        };
        let cells: Vec<String> = phases.iter().map(|phase| shown(number(line, phase), 1)).collect();
        table += &format!(
            "| {name} | {} | {} dB, {} / {} | {} dB, {} |\n",
            cells.join(" | "),
            line.get("near only").map_or("–", String::as_str),
            shown(score(near).0, 2),
            shown(score(near).1, 3),
            line.get("double talk").map_or("–", String::as_str),
            shown(score(both).1, 3)
        );
    }
    table
        + "\nGoals: ERLE ≥ 25 dB in the first second and ≥ 38 dB after four, with everything on (`all`: echo, noise, gain). A room with a \
             dense tail (T60 0.35 s), 60 ms of devices, a speaker that saturates; its response changes after 16 s.\n"
        + &drift_table(lines)
}

fn drift_table(lines: &[(String, Line)]) -> String {
    let mut table = String::from(
        "\n| microphone's clock against the speaker's | ERLE 4-16 s | 20-40 s | 40-60 s |\n|---|---|---|---|\n",
    );
    for (name, line) in lines {
        let Some(name) = name.strip_prefix("drift: ") else { continue };
        let cells = ["4-16 s", "20-40 s", "40-60 s"].map(|span| shown(number(line, span), 1));
        table += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    let measured = lines.iter().any(|(name, _)| name.starts_with("drift: "));
    if measured { table } else { String::new() }
}

fn cost_table(networks: &[(String, Line)], echoes: &[(String, Line)], costs: &[(String, Line)]) -> String {
    let of = |lines: &[(String, Line)], name: &str, key: &str| {
        mean(lines.iter().filter(|(line, _)| line.starts_with(name)).map(|(_, line)| number(line, key)))
    };
    format!(
        "| CPU ms per 10 ms of sound | |\n|---|---|\n| jitter buffer and decoder, one remote | {} |\n| Opus encoder, once for all | {} |\n\
         | echo, noise and gain | {} |\n| echo alone | {} |\n\n\
         | a call of five in real time, everybody speaks all the time | | goal |\n|---|---|---|\n\
         | share of a core | {} % | < 8 % |\n| CPU s per call-minute | {} | |\n",
        shown(of(networks, "ours", "cpu"), 3),
        shown(of(costs, "encode", "cpu"), 3),
        shown(of(echoes, "echo: all", "cpu"), 3),
        shown(of(echoes, "echo: aec", "cpu"), 3),
        shown(of(costs, "cpu", "share"), 1),
        shown(of(costs, "cpu", "per_minute"), 2),
    )
}
