use std::fmt::Write;

use mseq_model::{Audio, Checkpoint, Encoding, Layout, LevelShape, MixerShape, NormKind};

use super::{model_files, model_verify};
use crate::args::ModelsCommand;
use crate::{Failure, say};

/// `mamba-seq models`.
pub(crate) fn run(command: ModelsCommand) -> Result<(), Failure> {
    match command {
        ModelsCommand::List => list(),
        ModelsCommand::Info { model } => info(&model),
        ModelsCommand::Verify { model, tokens, device, dtype, developer } => {
            let place = developer.at(mseq_engine::choose(&device, dtype.map(|dtype| dtype.dtype()))?)?;
            model_verify::run(&model, tokens as usize, &place, dtype.map(|dtype| dtype.dtype()))
        }
        ModelsCommand::Convert(_) => Err(Failure::not_built("`models convert`")),
    }
}

fn list() -> Result<(), Failure> {
    let mut text = String::new();
    for builtin in mseq_data::builtins() {
        let checkpoint = Checkpoint::open(model_files(builtin.name)?)?;
        let shape = checkpoint.shape;
        let _ = writeln!(
            text,
            "{}  {}  {} layers x {}, {} parameters  {}",
            builtin.name,
            builtin.modality,
            shape.n_layer,
            shape.d_model,
            say::grouped(checkpoint.parameters() as u64),
            builtin.description
        );
    }
    say::out(&text)
}

fn info(name: &str) -> Result<(), Failure> {
    let c = Checkpoint::open(model_files(name)?)?;
    let s = c.shape;
    let mut text = String::new();
    let mut row = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<18} {value}");
    };
    row("model", c.name());
    let layout = match c.config.layout {
        Layout::HuggingFace => "Hugging Face (model_type mamba)",
        Layout::Original => "original (state-spaces)",
        Layout::CleanUMamba => "CleanUMamba (lab-emi), with a decoder",
    };
    row("family", format!("Mamba-1, {layout}"));
    row("schedule", c.schedule().to_string());
    row("parameters", say::grouped(c.parameters() as u64));
    row("n_layer", s.n_layer.to_string());
    row("d_model", s.d_model.to_string());
    let mixers: Vec<MixerShape> = (0..s.n_layer).map(|i| c.mixer_shape(i)).collect();
    // One number where blocks are alike; pruning leaves each its own.
    let each = |of: fn(&MixerShape) -> usize| {
        let mut values: Vec<String> = mixers.iter().map(|m| of(m).to_string()).collect();
        values.dedup();
        values.join(", ")
    };
    row("d_inner", each(|m| m.d_inner));
    row("d_state", each(|m| m.d_state));
    row("d_conv", each(|m| m.d_conv));
    row("dt_rank", each(|m| m.dt_rank));
    if let Ok(unet) = c.unet() {
        let widths = |levels: &[LevelShape]| -> Vec<String> {
            levels.iter().map(|level| format!("{}/{}", level.inner, level.out)).collect()
        };
        let (taps, stride) = (unet.taps, unet.stride);
        row("encoder", format!("{} (kernel {taps}, stride {stride})", widths(&unet.encoder).join(" ")));
        row("decoder", widths(&unet.decoder).join(" "));
    }
    if s.vocab > 0 {
        row("vocabulary", s.vocab.to_string());
    }
    row("weights", c.weights().dtype().map_or("mixed".to_owned(), |d| d.to_string()));
    let norm = match c.config.norm {
        NormKind::Rms => "RMSNorm",
        NormKind::Layer => "LayerNorm",
    };
    row("norm", format!("{norm}, eps {:e}", c.config.eps));
    row("residual", format!("f32 (residual_in_fp32 is {} in the config)", c.config.residual_in_fp32));
    row("modality", c.modality().to_string());
    match &c.audio {
        Some(audio) => {
            for (key, value) in audio_rows(&c, audio) {
                row(key, value);
            }
        }
        None => {
            let head = if c.config.tied { "tied to the embedding" } else { "its own (not used by embed)" };
            row("head", head.into());
            let letters: Vec<String> = c.tokens.letters.iter().map(|(l, id)| format!("{l} {id}")).collect();
            let (others, origin) = (c.tokens.unknown, c.tokens.origin);
            row("tokens", format!("{}; others {others} (from {origin})", letters.join(", ")));
            row("strands", "forward only".into());
        }
    }
    row("context", c.tokens.context.map_or("whole record".into(), |n| format!("{n} tokens")));
    if let Some(n) = c.tokens.model_max_length {
        row("trained at", format!("at most {n} tokens (model_max_length); longer records extrapolate"));
    }
    let state: usize = mixers.iter().map(|m| 4 * m.d_inner * (m.d_state + m.d_conv - 1)).sum();
    row("state", format!("{} a sequence (conv_state and ssm_state, f32)", say::bytes(state as u64)));
    row("sha256", c.files().sha256()?);
    for note in &c.notes {
        row("note", note.clone());
    }
    if let Some(builtin) = mseq_data::find(name) {
        let _ = write!(text, "\n{}", builtin.card);
    }
    say::out(&text)
}

/// What `info` says of a model that reads audio.
fn audio_rows(c: &Checkpoint, audio: &Audio) -> Vec<(&'static str, String)> {
    let rate = audio.sample_rate;
    let mut rows =
        vec![("encoding", audio.encoding.name().to_owned()), ("sample rate", format!("{rate} Hz"))];
    if let Some(front) = c.front() {
        let frames = f64::from(rate) / front.hop as f64;
        rows.push(("frame", format!("{} samples from {} ({frames} Hz)", front.hop, front.reach)));
    }
    if audio.encoding == Encoding::CleanUMamba {
        rows.push(("gives", "frames before its decoder (embed), denoised audio (enhance)".into()));
    }
    rows
}
