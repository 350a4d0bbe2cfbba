//! `mamba-seq generate`: continuations of prompts, as FASTA; of recordings, as WAV.

mod sound;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mseq_core::Item;
use mseq_engine::{Generate, GenerateConfig, Sampling, choose, open_generator};
use mseq_model::Checkpoint;
use mseq_pipeline::{SavedGeneration, Signal, SignalWatch, load_generation, save_generation};
use mseq_sink::{FastaSink, check_output};
use mseq_source::{DnaTokenizer, InputSet, SequenceSource};

use self::sound::WavFiles;
use super::model_files;
use crate::args::{GenerateArgs, keep_apart};
use crate::{Failure, say};

/// Bases of a block of the source.
const BLOCK: usize = 64 << 10;

/// Most draws of a lane before the host looks at them.
const STEPS: usize = 256;

/// Most draws of all lanes, unless a lane has few: the host also looks for signals, and should be quick.
const DRAWS: usize = 4096;

/// Prompts by name.
struct Prompts {
    names: Vec<String>,
    ids: Vec<Vec<u32>>,
    unknown: u64,
}

impl Prompts {
    fn new() -> Self {
        Self { names: Vec::new(), ids: Vec::new(), unknown: 0 }
    }

    /// Takes what a source gives; `empty` says what is wrong with a record of that name without a token.
    fn take(&mut self, item: Item, empty: impl Fn(&str) -> String) -> Result<(), Failure> {
        match item {
            Item::Begin(head) => {
                self.names.push(head.id.to_string());
                self.ids.push(Vec::new());
            }
            Item::Tokens(block) => self.ids.last_mut().map(|ids| ids.extend(block)).unwrap_or(()),
            // Of a source of tokens there are none.
            Item::Samples(_) => {}
            Item::End(tail) => {
                self.unknown += tail.unknown;
                if self.ids.last().is_some_and(Vec::is_empty) {
                    return Err(Failure::Run(empty(self.names.last().map_or("", |name| name))));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn run(args: &GenerateArgs, quiet: bool) -> Result<(), Failure> {
    let checkpoint = Checkpoint::open(model_files(args.model()?)?)?;
    checkpoint.config.reads_left_to_right()?;
    let rate = sound::rate(&checkpoint)?;
    let letters = Letters::new(&checkpoint);
    let tokenizer = DnaTokenizer::new(&checkpoint.tokens.letters, checkpoint.tokens.unknown);
    let stdout = args.output == Path::new("-");
    let reads = || {
        let prompt = args.prompt.as_deref().into_iter().chain(args.model.as_deref()).map(Path::new);
        prompt.chain(args.from_state.as_deref())
    };
    let output = (!stdout).then_some(&args.output);
    if let Some(path) = output {
        keep_apart("-o", path, reads())?;
        check_output(path)?;
    }
    if let Some(path) = &args.save_state {
        // The state that it goes on from may be replaced, at the end.
        keep_apart("--save-state", path, reads().filter(|read| Some(*read) != args.from_state.as_deref()))?;
        if output.is_some_and(|output| output == path) {
            return Err(Failure::Usage(format!(
                "-o and --save-state are both {}; choose another",
                path.display()
            )));
        }
        check_output(path)?;
    }
    let sha256 = checkpoint.files().sha256()?;
    let saved = match &args.from_state {
        None => None,
        Some(path) => Some(load_generation(path, &checkpoint.shape, &sha256)?),
    };
    let sampling = sampling(args, saved.as_ref().map(|(_, with)| with.sampling))?;
    let seed = sampling.seed;
    let prompts = match &saved {
        Some((_, with)) => Prompts { names: with.names.clone(), ids: Vec::new(), unknown: 0 },
        None => match rate {
            Some(rate) => sound::prompts(args, rate)?,
            None => prompts(args, &tokenizer)?,
        },
    };
    if saved.is_some() && args.samples > 1 {
        return Err(Failure::Usage(
            "--samples has no meaning with --from-state, which names its sequences".into(),
        ));
    }
    // A sequence is a prompt and a number; its place in this list is its lane for random numbers.
    let samples = args.samples as usize;
    let total = prompts.names.len() * samples;
    if u32::try_from(total).is_err() {
        return Err(Failure::Usage("more than 2^32 sequences; use fewer --samples".into()));
    }
    let lanes = if saved.is_some() { total } else { total.min(args.batch as usize) };
    if args.save_state.is_some() && lanes < total {
        return Err(Failure::Usage(format!(
            "--save-state needs all {total} sequences at once; use --batch {total}"
        )));
    }
    if prompts.unknown > 0 && !quiet {
        say::note(&format!(
            "{} of the prompts became the unknown token",
            say::count(prompts.unknown, "base")
        ));
    }
    let sound = rate.map(|rate| WavFiles::new(&args.output, rate, total, args.tokens)).transpose()?;
    let place = args.developer.at(choose(&args.device, args.dtype())?)?;
    if let (Some(why), false) = (&place.note, quiet) {
        say::note(&format!("running on the cpu: {why}"));
    }
    let chunk = args.chunk.map_or_else(|| place.default_chunk(&checkpoint.shape), |n| place.step(n as usize));
    let threads = args.threads.map_or(0, |n| n as usize);
    let steps = STEPS.min((DRAWS / lanes.max(1)).max(16)).min(args.tokens as usize);
    let allowed = if rate.is_some() { (0..256).collect() } else { letters.ids() };
    let config = GenerateConfig { lanes, sampling, allowed: Some(allowed), chunk, block: steps };
    let mut generator = open_generator(&place, threads, &checkpoint, config.clone())?;
    // From the first draw on: what a signal ends before has left nothing behind.
    let mut drawing = None;
    let mut outlet = Some((sound, letters));
    let mut first = 0;
    while first < total {
        let here = lanes.min(total - first);
        if here < generator.lanes() {
            generator = open_generator(
                &place,
                threads,
                &checkpoint,
                GenerateConfig { lanes: here, ..config.clone() },
            )?;
        }
        let of = |lane: usize| ((first + lane) / samples, (first + lane) % samples);
        match &saved {
            Some((state, _)) => generator.restore(state)?,
            None => {
                let from = of(0).0;
                let mine = &prompts.ids[from..=of(here - 1).0];
                let of_lane: Vec<usize> = (0..here).map(|lane| of(lane).0 - from).collect();
                generator.prompt(mine, &of_lane, first as u32)?;
            }
        }
        let name = |lane: usize| match of(lane) {
            (prompt, sample) if samples > 1 => format!("{}_{}", prompts.names[prompt], sample + 1),
            (prompt, _) => prompts.names[prompt].clone(),
        };
        let position = saved.as_ref().map_or(0, |(state, _)| state.position);
        let head = |lane| format!("{} tokens={} from={position} seed={seed}", name(lane), args.tokens);
        if let Some((sound, letters)) = outlet.take() {
            let watch = SignalWatch::start()?;
            let sink = match sound {
                Some(files) => Sink::Sound(files),
                None if stdout => Sink::Letters(letters, FastaSink::stream(Box::new(std::io::stdout()))),
                None => Sink::Letters(letters, FastaSink::create(&args.output)?),
            };
            drawing = Some((watch, sink));
        }
        let Some((watch, mut sink)) = drawing.take() else {
            return Err(Failure::Run("internal: no sink".into()));
        };
        match &mut sink {
            Sink::Letters(_, fasta) => {
                fasta.begin((0..here).map(head).collect(), args.tokens, &std::env::temp_dir())?;
            }
            Sink::Sound(files) => files.begin(first, here)?,
        }
        let drawn = draw(generator.as_mut(), args.tokens, first, &mut sink, &watch)?;
        let with =
            SavedGeneration { model_sha256: sha256.clone(), names: (0..here).map(name).collect(), sampling };
        // A signal behind the last token finds the work done.
        if let Some(signal) = watch.came().filter(|_| drawn < args.tokens || first + here < total) {
            let kept = keep_what_is_drawn(args, sink)?;
            if let Some(path) = &args.save_state {
                save_generation(path, &checkpoint.shape, &generator.save()?, &with)?;
            }
            return Err(interrupted(signal, args, drawn, kept));
        }
        match &mut sink {
            Sink::Letters(_, fasta) => fasta.end()?,
            Sink::Sound(files) => files.end()?,
        }
        drawing = Some((watch, sink));
        if let Some(path) = &args.save_state {
            save_generation(path, &checkpoint.shape, &generator.save()?, &with)?;
        }
        first += here;
    }
    let written = match drawing {
        Some((_, Sink::Letters(_, fasta))) => fasta.finish()?,
        Some((_, Sink::Sound(files))) => files.written(),
        None => 0,
    };
    if !quiet && !stdout {
        let what = say::count(total as u64, "sequence");
        say::line(&format!("{}: {what}, {}", args.output.display(), say::count(written, "token")));
    }
    Ok(())
}

/// Where the drawn tokens go.
enum Sink {
    Letters(Letters, FastaSink),
    Sound(WavFiles),
}

/// Draws tokens of the sequences from `first` on, block by block, and writes what they stand for, until
/// there are `tokens` or a signal comes; how many of each.
fn draw(
    generator: &mut dyn Generate,
    tokens: u64,
    first: usize,
    sink: &mut Sink,
    watch: &SignalWatch,
) -> Result<u64, Failure> {
    let mut done = 0;
    while done < tokens && watch.came().is_none() {
        let drawn = generator.next(usize::try_from(tokens - done).unwrap_or(usize::MAX))?;
        done += (drawn.len() / generator.lanes()) as u64;
        match sink {
            Sink::Letters(letters, fasta) => {
                fasta.push(&drawn.iter().map(|&id| letters.of(id)).collect::<Vec<u8>>())?;
            }
            Sink::Sound(files) => files.push(first, generator.lanes(), &drawn)?,
        }
    }
    Ok(done)
}

/// What was drawn so far, where a state behind them is saved or they go to a stream: beside the output's
/// name, which only whole sequences get. `None` when nothing is kept.
fn keep_what_is_drawn(args: &GenerateArgs, sink: Sink) -> Result<Option<PathBuf>, Failure> {
    let stdout = args.output == Path::new("-");
    if args.save_state.is_none() && !stdout {
        return Ok(None);
    }
    let mut partial = args.output.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    match sink {
        Sink::Letters(_, mut fasta) => {
            fasta.rename(&partial)?;
            fasta.cut()?;
            fasta.finish()?;
        }
        Sink::Sound(files) => files.cut()?,
    }
    Ok(Some(if stdout { args.output.clone() } else { partial }))
}

/// What a signal ended, and how to go on.
fn interrupted(signal: Signal, args: &GenerateArgs, drawn: u64, kept: Option<PathBuf>) -> Failure {
    let so_far = format!("{signal} after {drawn} of {} tokens a sequence", args.tokens);
    let message = match (&args.save_state, kept) {
        (Some(state), Some(kept)) => {
            let (state, left) = (state.display(), args.tokens - drawn);
            let place = match kept.to_str() {
                Some("-") => "written".to_owned(),
                _ => format!("in {}", kept.display()),
            };
            let model = args.model.as_ref().map_or(String::new(), |model| format!(" --model {model}"));
            format!(
                "{so_far}: they are {place}, the state in {state}; go on with --from-state {state} --tokens {left}{model}"
            )
        }
        (None, None) => format!("{so_far}: nothing is kept; with --save-state they and the state would be"),
        _ => so_far,
    };
    Failure::Signal(signal, message)
}

/// How tokens are drawn: as the options say, else as before, else from all that is likely.
fn sampling(args: &GenerateArgs, saved: Option<Sampling>) -> Result<Sampling, Failure> {
    let before = saved.unwrap_or(Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 });
    let temperature = args.temperature.unwrap_or(before.temperature);
    if !temperature.is_finite() || temperature < 0.0 {
        return Err(Failure::Usage(format!("--temperature {temperature} is not 0 or more")));
    }
    let top_p = args.top_p.unwrap_or(before.top_p);
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(Failure::Usage(format!("--top-p {top_p} is not above 0 and up to 1")));
    }
    let top_k = args.top_k.unwrap_or(before.top_k);
    Ok(Sampling { temperature, top_k, top_p, seed: args.seed.unwrap_or(before.seed) })
}

/// What the command line names, as tokens.
fn prompts(args: &GenerateArgs, tokenizer: &DnaTokenizer) -> Result<Prompts, Failure> {
    if let Some(text) = &args.prompt_text {
        let mut ids = Vec::new();
        let counts = tokenizer.encode(text.as_bytes(), &mut ids).map_err(|bad| {
            let shown = char::from(bad.byte);
            Failure::Usage(format!(
                "--prompt-text: base {}: byte {:#04x} '{shown}' is not a nucleotide code; remove it",
                bad.at + 1,
                bad.byte
            ))
        })?;
        if ids.is_empty() {
            return Err(Failure::Usage("--prompt-text is empty; give at least one base".into()));
        }
        return Ok(Prompts { names: vec!["prompt".into()], ids: vec![ids], unknown: counts.unknown });
    }
    let file = args.prompt.clone().unwrap_or_default();
    let mut source = SequenceSource::open(InputSet::resolve(&[file], false)?, tokenizer.clone(), BLOCK)?;
    let mut prompts = Prompts::new();
    let shown = args.prompt.as_deref().unwrap_or_default();
    while let Some(item) = source.next().map_err(|e| Failure::Run(e.to_string()))? {
        prompts.take(item, |name| {
            format!("{shown}: record '{name}' is empty, and a prompt needs at least one base; remove it")
        })?;
    }
    Ok(prompts)
}

/// Token ids as letters: the tokens that can be drawn.
struct Letters(BTreeMap<u32, u8>);

impl Letters {
    fn new(checkpoint: &Checkpoint) -> Self {
        let mut letters = BTreeMap::new();
        for (&letter, &id) in &checkpoint.tokens.letters {
            if letter.is_ascii() {
                letters.entry(id).or_insert(letter as u8);
            }
        }
        Self(letters)
    }

    fn ids(&self) -> Vec<u32> {
        self.0.keys().copied().collect()
    }

    fn of(&self, id: u32) -> u8 {
        self.0.get(&id).copied().unwrap_or(b'N')
    }
}
