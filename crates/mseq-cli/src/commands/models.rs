use std::fmt::Write;

use mseq_model::{Checkpoint, Layout, NormKind};

use super::{model_files, model_verify};
use crate::args::ModelsCommand;
use crate::{Failure, say};

/// `mamba-seq models`.
pub(crate) fn run(command: ModelsCommand) -> Result<(), Failure> {
    match command {
        ModelsCommand::List => list(),
        ModelsCommand::Info { model } => info(&model),
        ModelsCommand::Verify { model, tokens, device, dtype } => {
            model_verify::run(&model, tokens as usize, &device, dtype.map(|dtype| dtype.dtype()))
        }
        ModelsCommand::Convert(_) => Err(Failure::not_built("`models convert`")),
    }
}

fn list() -> Result<(), Failure> {
    let mut text = String::new();
    for builtin in mseq_data::builtins() {
        let shape = Checkpoint::open(model_files(builtin.name)?)?.shape;
        let _ = writeln!(
            text,
            "{}  {}  {} layers x {}, {} parameters  {}",
            builtin.name,
            builtin.modality,
            shape.n_layer,
            shape.d_model,
            say::grouped(shape.parameters() as u64),
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
    };
    row("family", format!("Mamba-1, {layout}"));
    row("schedule", c.schedule().to_string());
    row("parameters", say::grouped(s.parameters() as u64));
    row("n_layer", s.n_layer.to_string());
    row("d_model", s.d_model.to_string());
    row("d_inner", s.d_inner.to_string());
    row("d_state", s.d_state.to_string());
    row("d_conv", s.d_conv.to_string());
    row("dt_rank", s.dt_rank.to_string());
    row("vocabulary", s.vocab.to_string());
    row("weights", c.weights().dtype().map_or("mixed".to_owned(), |d| d.to_string()));
    let norm = match c.config.norm {
        NormKind::Rms => "RMSNorm",
        NormKind::Layer => "LayerNorm",
    };
    row("norm", format!("{norm}, eps {:e}", c.config.eps));
    row("residual", format!("f32 (residual_in_fp32 is {} in the config)", c.config.residual_in_fp32));
    row("head", if c.config.tied { "tied to the embedding" } else { "its own (not used by embed)" }.into());
    let letters: Vec<String> = c.tokens.letters.iter().map(|(l, id)| format!("{l} {id}")).collect();
    row("tokens", format!("{}; others {} (from {})", letters.join(", "), c.tokens.unknown, c.tokens.origin));
    row("strands", "forward only".into());
    row("context", c.tokens.context.map_or("whole record".into(), |n| format!("{n} tokens")));
    if let Some(n) = c.tokens.model_max_length {
        row("trained at", format!("at most {n} tokens (model_max_length); longer records extrapolate"));
    }
    let state = 4 * s.n_layer * s.d_inner * (s.d_state + s.d_conv - 1);
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
