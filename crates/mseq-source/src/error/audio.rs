/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// What is named is no recording.
    #[error("{path}: is not audio: {what}; give WAV, FLAC, MP3, Ogg Vorbis or M4A")]
    NotAudio {
        /// The input.
        path: String,
        /// What it is.
        what: String,
    },
    /// Letters, for a model of audio.
    #[error(
        "{path}: is {what}, and the model reads audio; give a model of DNA with --model, and audio in a run of its own"
    )]
    IsDna {
        /// The input.
        path: String,
        /// Its format.
        what: &'static str,
    },
    /// A recording, for a model of letters.
    #[error(
        "{path}: is {what}, and the model reads DNA; give a model of audio with --model, and audio in a run of its own"
    )]
    IsSound {
        /// The input.
        path: String,
        /// Its format.
        what: &'static str,
    },
    /// A directory without a recording.
    #[error("{path}: none of the {skipped} files in this directory is audio{}", if *recursive { "" } else { "; --recursive looks further down" })]
    NoAudioFile {
        /// The directory.
        path: String,
        /// Files in it.
        skipped: usize,
        /// Whether directories below were searched too.
        recursive: bool,
    },
    /// A film.
    #[error("{path}: is a video; take its sound out first: ffmpeg -i {path} -vn sound.flac")]
    Video {
        /// The input.
        path: String,
    },
    /// A feature of a format that is not read.
    #[error("{path}: {what} is not supported; convert it: ffmpeg -i {path} out.flac")]
    Unsupported {
        /// The input.
        path: String,
        /// What.
        what: String,
    },
    /// A header that makes no sense.
    #[error("{path}: {what}; the file is damaged")]
    Header {
        /// The input.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// Data that does not decode.
    #[error("{path}: sample {sample} ({seconds:.3} s): {what}; the file is damaged")]
    Damaged {
        /// The input.
        path: String,
        /// Sample of the file, 0-based.
        sample: u64,
        /// The same as a time.
        seconds: f64,
        /// What is wrong.
        what: String,
    },
    /// A file that ends before its header says.
    #[error(
        "{path}: gives {samples} of {wanted} samples: the file is truncated or damaged; copy or download it again"
    )]
    Truncated {
        /// The input.
        path: String,
        /// Samples that are there.
        samples: u64,
        /// Samples that should be.
        wanted: u64,
    },
    /// A sample that is no number.
    #[error("{path}: sample {sample} ({seconds:.3} s) is {value}, not a number in range; repair the file")]
    NotFinite {
        /// The input.
        path: String,
        /// Sample of the file, 0-based.
        sample: u64,
        /// The same as a time.
        seconds: f64,
        /// The value.
        value: f32,
    },
    /// Several channels and no choice.
    #[error("{path}: has {channels} channels; say which by --channel 1 to {channels}, left, right or mix")]
    Channels {
        /// The input.
        path: String,
        /// How many.
        channels: usize,
    },
    /// A channel that is not there.
    #[error("{path}: has no channel {asked}, only {channels}; choose another --channel")]
    NoChannel {
        /// The input.
        path: String,
        /// What was asked for.
        asked: String,
        /// How many there are.
        channels: usize,
    },
    /// A rate that no recording has.
    #[error("{path}: {rate} samples a second, which is not from {least} to {most}; the file is damaged")]
    Rate {
        /// The input.
        path: String,
        /// What the header says.
        rate: u32,
        /// Lowest that is read.
        least: u32,
        /// Highest that is read.
        most: u32,
    },
    /// Standard input in a format that needs seeking.
    #[error("stdin: {what} can't be read from a pipe; give a file")]
    Pipe {
        /// The format.
        what: &'static str,
    },
}
