//! What is no recording, or a damaged one: one exact line each, and nothing left behind.

use std::path::Path;
use std::process::Command;

use hound::WavSpec;

use super::audio::has;
use crate::common::sound::{PCM, sound, write_floats, write_wav};
use crate::common::{Row, data, golden_model, mamba_seq, mamba_seq_with_input, rows};

fn refused(folder: &Path, args: &[&str], code: i32, line: &str) {
    let before = std::fs::read_dir(folder).unwrap().count();
    let ran = mamba_seq(folder, &[&["embed", "-o", "o.parquet", "--device", "cpu", "-q"], args].concat());
    assert_eq!((ran.code, ran.stderr.trim_end()), (code, format!("error: {line}").as_str()), "{args:?}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), before, "{args:?}");
}

#[test]
fn each_bad_recording_is_one_exact_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let spoil = |from: &str, name: &str, how: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(data(from)).or_else(|_| std::fs::read(at(from))).unwrap();
        how(&mut bytes);
        std::fs::write(at(name), bytes).unwrap();
    };
    write_wav(&at("good.wav"), PCM, &sound(1, 4000));
    write_wav(&at("six.wav"), WavSpec { channels: 6, ..PCM }, &sound(2, 600));
    let (mut nan, mut inf) = (vec![0.1f32; 900], vec![0.1f32; 900]);
    nan[800] = f32::NAN;
    inf[16] = f32::NEG_INFINITY;
    write_floats(&at("nan.wav"), 16_000, &nan);
    write_floats(&at("inf.wav"), 16_000, &inf);
    std::fs::copy(data("audio/film.mp4"), at("film.mp4")).unwrap();
    std::fs::write(at("text.wav"), "These are the notes of Monday.\n").unwrap();
    std::fs::write(at("nothing.wav"), "").unwrap();
    std::fs::write(at("x.fa"), ">a\nACGT\n").unwrap();
    std::fs::write(at("x.fq"), "@a\nACGT\n+\nIIII\n").unwrap();
    std::fs::write(at("broken.mp3"), b"\xff\xfb\xf0\x64 what is left of a song").unwrap();
    std::fs::write(at("tag.mp3"), b"ID3\x04\0\0\0\0\0\x04abcdRIFF, not a frame").unwrap();
    std::fs::write(at("x.aiff"), b"FORM\0\0\0\x2eAIFFCOMM\0\0\0\x12").unwrap();
    spoil("good.wav", "rate.wav", &|b| b[24..28].fill(0));
    spoil("good.wav", "cut.wav", &|b| b.truncate(44 + 2 * 1500));
    spoil("good.wav", "head.wav", &|b| b.truncate(30));
    spoil("audio/clips/chirp.flac", "cut.flac", &|b| b.truncate(b.len() / 2));
    spoil("audio/clips/chirp.flac", "hole.flac", &|b| b[25_000..25_050].fill(0));
    spoil("audio/clips/bell.ogg", "cut.ogg", &|b| b.truncate(b.len() - 1500));
    const MEND: &str = "the file is truncated or damaged; copy or download it again";
    for (name, code, line) in [
        ("film.mp4", 1, "is a video; take its sound out first: ffmpeg -i film.mp4 -vn sound.flac".to_owned()),
        ("text.wav", 1, "is not audio: it starts with \"These are the notes of M\"; give WAV, FLAC, MP3, Ogg Vorbis or M4A".into()),
        ("nothing.wav", 1, "is not audio: it is empty; give WAV, FLAC, MP3, Ogg Vorbis or M4A".into()),
        ("six.wav", 2, "has 6 channels; say which by --channel 1 to 6, left, right or mix".into()),
        ("nan.wav", 1, "sample 800 (0.050 s) is NaN, not a number in range; repair the file".into()),
        ("inf.wav", 1, "sample 16 (0.001 s) is -inf, not a number in range; repair the file".into()),
        ("rate.wav", 1, "0 samples a second, which is not from 1 to 1000000; the file is damaged".into()),
        ("cut.wav", 1, format!("gives 1500 of 4000 samples: {MEND}")),
        ("head.wav", 1, "the WAV header ends too early; the file is damaged".into()),
        ("cut.flac", 1, format!("gives 12672 of 32000 samples: {MEND}")),
        ("hole.flac", 1, "sample 12672 (0.792 s): 1152 samples are missing here; the file is damaged".into()),
        ("cut.ogg", 1, "its header can't be read (it ends too early); the file is damaged".into()),
        ("broken.mp3", 1, "at byte 0 there is no MP3 frame but \"\\xff\\xfb\\xf0d\"; the file is damaged".into()),
        ("tag.mp3", 1, "at byte 14 there is no MP3 frame but \"RIFF\"; the file is damaged".into()),
        ("x.aiff", 1, "AIFF is not supported; convert it: ffmpeg -i x.aiff out.flac".into()),
        ("x.fa", 2, "is FASTA, and the model reads audio; give a model of DNA with --model, and audio in a run of its own".into()),
        ("x.fq", 2, "is FASTQ, and the model reads audio; give a model of DNA with --model, and audio in a run of its own".into()),
    ] {
        refused(folder.path(), &[name, "--model", "mamba-audio-2m"], code, &format!("{name}: {line}"));
    }
    // A good one before a bad one changes nothing.
    refused(
        folder.path(),
        &["good.wav", "cut.wav"],
        1,
        &format!("cut.wav: gives 1500 of 4000 samples: {MEND}"),
    );
}

#[test]
fn dna_and_audio_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    write_wav(&folder.path().join("x.wav"), PCM, &sound(1, 400));
    std::fs::write(folder.path().join("x.fa"), ">a\nACGT\n").unwrap();
    std::fs::write(folder.path().join("named.flac"), "ACGT and so on").unwrap();
    let dna = golden_model("d29-n4-k2-e1");
    const MEND: &str =
        "and the model reads DNA; give a model of audio with --model, and audio in a run of its own";
    refused(folder.path(), &["x.wav", "--model", &dna], 2, &format!("x.wav: is WAV audio, {MEND}"));
    refused(folder.path(), &["x.fa", "x.wav", "--model", &dna], 2, &format!("x.wav: is WAV audio, {MEND}"));
    refused(
        folder.path(),
        &["named.flac", "--model", &dna],
        2,
        &format!("named.flac: is named as FLAC audio, {MEND}"),
    );
    refused(
        folder.path(),
        &["x.fa", "x.wav"],
        2,
        "x.wav is audio and x.fa is not, and a model reads one of them; run them one after the other",
    );
}

/// Nothing, silence, and a steady level are recordings like others.
#[test]
fn empty_silent_and_steady_recordings_are_defined() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_wav(&at("empty.wav"), PCM, &[]);
    write_wav(&at("one.wav"), PCM, &[77]);
    write_wav(&at("silent.wav"), PCM, &[0; 40_000]);
    write_wav(&at("steady.wav"), PCM, &[16_384; 40_000]);
    let clean = format!("{}/model.safetensors", golden_model("clean-even"));
    for (model, normalize) in [
        ("mamba-audio-2m", "none"),
        ("mamba-audio-2m", "two-pass"),
        (&clean, "two-pass"),
        (&clean, "fixed:0.1"),
        (&clean, "none"),
    ] {
        let with = ["--model", model, "--normalize", normalize, "--device", "cpu", "-o", "o.parquet"];
        let args = ["embed", "empty.wav", "one.wav", "silent.wav", "steady.wav"];
        let ran = mamba_seq(folder.path(), &[&args[..], &with].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stderr.lines().any(|line| line == "1 record without a sample gave no row"),
            "{}",
            ran.stderr
        );
        let found = rows(&at("o.parquet"));
        let of = |name: &str| found.iter().filter(|row| row.record == name).collect::<Vec<&Row>>();
        assert_eq!(["empty", "one", "silent", "steady"].map(|name| of(name).len()), [0, 1, 3, 3]);
        assert!(found.iter().flat_map(|row| &row.embedding).all(|bits| f32::from_bits(*bits).is_finite()));
    }
    let ran = mamba_seq(folder.path(), &["embed", "empty.wav", "-o", "o.parquet", "-q", "--device", "cpu"]);
    assert_eq!((ran.code, rows(&at("o.parquet")).len()), (0, 0), "{}", ran.stderr);
}

/// Films of every container that ffmpeg makes here, and songs with broken headers.
#[test]
fn films_and_broken_songs_as_ffmpeg_makes_them() {
    if !has("ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ffmpeg = |args: &[&str]| {
        let out =
            Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).current_dir(folder.path()).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let picture = ["-f", "lavfi", "-i", "testsrc=s=64x64:r=5:d=1"];
    let tone = ["-f", "lavfi", "-i", "sine=frequency=300:duration=2"];
    for (name, coding) in [
        ("a.mp4", ["-c:v", "mpeg4", "-c:a", "aac"]),
        ("a.mov", ["-c:v", "mpeg4", "-c:a", "aac"]),
        ("a.mkv", ["-c:v", "mpeg4", "-c:a", "aac"]),
        ("a.avi", ["-c:v", "mpeg4", "-c:a", "mp2"]),
        ("a.ts", ["-c:v", "mpeg2video", "-c:a", "mp2"]),
        ("a.mpg", ["-c:v", "mpeg2video", "-c:a", "mp2"]),
        ("a.ogv", ["-c:v", "libtheora", "-c:a", "libvorbis"]),
    ] {
        ffmpeg(&[&picture[..], &tone, &coding, &[name]].concat());
        let line = format!("{name}: is a video; take its sound out first: ffmpeg -i {name} -vn sound.flac");
        refused(folder.path(), &[name], 1, &line);
    }
    ffmpeg(&[&picture[..], &["-c:v", "mpeg4", "silent.mp4"]].concat());
    refused(
        folder.path(),
        &["silent.mp4"],
        1,
        "silent.mp4: is a video; take its sound out first: ffmpeg -i silent.mp4 -vn sound.flac",
    );
    ffmpeg(&[&tone[..], &["-c:a", "libopus", "a.opus"]].concat());
    refused(
        folder.path(),
        &["a.opus"],
        1,
        "a.opus: sound coded as Opus is not supported; convert it: ffmpeg -i a.opus out.flac",
    );
    ffmpeg(&[&tone[..], &["-c:a", "libmp3lame", "a.mp3"]].concat());
    let song = std::fs::read(folder.path().join("a.mp3")).unwrap();
    let tag = song.windows(2).position(|two| two == b"\xff\xfb").unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let mut broken = song.clone();
    broken[tag + 1] = 0;
    write("b.mp3", &broken);
    let line = format!("b.mp3: at byte {tag} there is no MP3 frame but \"\\xff\\x00");
    let ran = mamba_seq(folder.path(), &["embed", "b.mp3", "-o", "o.parquet", "-q", "--device", "cpu"]);
    assert!(ran.code == 1 && ran.stderr.starts_with(&format!("error: {line}")), "{}", ran.stderr);
    // A hole in the middle shows, whether the file counts its samples or not; an end that is missing shows in
    // its last frame, or in the count.
    ffmpeg(&[&tone[..], &["-c:a", "libmp3lame", "-write_xing", "0", "e.mp3"]].concat());
    let uncounted = std::fs::read(folder.path().join("e.mp3")).unwrap();
    let middle = song.len() / 2;
    let punched = |song: &[u8]| {
        let mut hole = song.to_vec();
        hole[middle..middle + 450].fill(0);
        hole
    };
    write("c.mp3", &punched(&song));
    write("f.mp3", &punched(&uncounted));
    write("d.mp3", &uncounted[..middle]);
    let frame = song[..middle].windows(2).rposition(|two| two == b"\xff\xfb").unwrap();
    write("g.mp3", &song[..frame]);
    for (input, words) in [
        ("c.mp3", "hold no MP3 frame, and the sound goes on behind them; the file is damaged"),
        ("f.mp3", "hold no MP3 frame, and the sound goes on behind them; the file is damaged"),
        ("-", "hold no MP3 frame, and the sound goes on behind them; the file is damaged"),
        ("d.mp3", "it was cut off; the file is damaged"),
        ("g.mp3", "88200 samples: the file is truncated or damaged"),
    ] {
        let args = ["embed", input, "-o", "o.parquet", "-q", "--device", "cpu", "--model", "mamba-audio-2m"];
        let ran = mamba_seq_with_input(folder.path(), &args, &punched(&uncounted));
        let said = ran.stderr.as_str();
        assert!(ran.code == 1 && said.lines().count() == 1 && said.contains(words), "{input}: {said}");
        assert!(!folder.path().join("o.parquet").exists());
    }
    // Two songs in one file: the first one's count leaves the second out.
    write("two.mp3", &[&song[..], &song].concat());
    let ran = mamba_seq(folder.path(), &["embed", "two.mp3", "-o", "o.parquet", "-q", "--device", "cpu"]);
    let words = "(split what was joined); the file is damaged";
    assert!(ran.code == 1 && ran.stderr.contains(words), "{}", ran.stderr);
    // Pages and frames that don't arrive whole, in pipes that count nothing.
    for (coding, format) in [("flac", "flac"), ("libvorbis", "ogg")] {
        let noise = ["-f", "lavfi", "-i", "anoisesrc=d=9:r=16000:s=1:a=0.3", "-c:a", coding, "-f", format];
        let name = format!("whole.{format}");
        ffmpeg(&[&noise[..], &[&name]].concat());
        let cat = Command::new("ffmpeg")
            .args(["-v", "error", "-i", &name, "-c:a", "copy", "-f", format, "pipe:1"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let mut bytes = cat.stdout;
        let args = ["embed", "-", "-o", "o.parquet", "-q", "--device", "cpu", "--model", "mamba-audio-2m"];
        let ran = mamba_seq_with_input(folder.path(), &args, &bytes);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{format}");
        std::fs::remove_file(folder.path().join("o.parquet")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 40].fill(0);
        let ran = mamba_seq_with_input(folder.path(), &args, &bytes);
        let said = ran.stderr.as_str();
        assert!(ran.code == 1 && said.lines().count() == 1, "{format}: {} {said}", ran.code);
        let words = if format == "flac" {
            "samples are missing here; the file is damaged"
        } else {
            "the Ogg page at byte "
        };
        assert!(said.contains(words), "{format}: {said}");
        assert!(!folder.path().join("o.parquet").exists());
    }
    // What the hole was made in is fine, by either way in.
    // Without a count, the encoder's padding is sound, as it is to ffmpeg.
    for (input, name, count) in [("a.mp3", "a", 2), ("e.mp3", "e", 3), ("-", "p", 3)] {
        let out = format!("{name}.parquet");
        let args = ["embed", input, "-o", &out, "-q", "--device", "cpu", "--model", "mamba-audio-2m"];
        let ran = mamba_seq_with_input(folder.path(), &args, &uncounted);
        assert_eq!((ran.code, rows(&folder.path().join(&out)).len()), (0, count), "{input}: {}", ran.stderr);
    }
}
