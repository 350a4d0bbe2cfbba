use std::io::Write;
use std::path::Path;
use std::process::Command;

use mseq_core::Item;

use super::*;
use crate::InputSet;

fn options(model_rate: u32, channel: Option<Channel>) -> AudioOptions {
    let n = |n| NonZeroU32::new(n).unwrap();
    AudioOptions { channel, model_rate: n(model_rate), hop: n(1), mulaw: false, loudness: Loudness::None }
}

/// Samples of one file at its own rate, or the error.
fn read(path: &Path, options: AudioOptions, block: usize) -> Result<(Vec<f32>, u64)> {
    let set = InputSet::resolve_audio(&[path.to_string_lossy().into_owned()], false)?;
    let mut source = AudioSource::open(set, options, block);
    let (mut samples, mut bases) = (Vec::new(), 0);
    while let Some(item) = source.next()? {
        match item {
            Item::Samples(more) => {
                assert!(more.len() <= block && !more.is_empty());
                samples.extend(more);
            }
            Item::End(tail) => bases = tail.bases,
            _ => {}
        }
    }
    Ok((samples, bases))
}

fn write(dir: &Path, name: &str, spec: hound::WavSpec, samples: &[i32]) -> std::path::PathBuf {
    let path = dir.join(name);
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for &s in samples {
        match spec.sample_format {
            hound::SampleFormat::Int => writer.write_sample(s).unwrap(),
            hound::SampleFormat::Float => writer.write_sample(s as f32 / 1000.0).unwrap(),
        }
    }
    writer.finalize().unwrap();
    path
}

fn spec(bits: u16, channels: u16, sample_format: hound::SampleFormat) -> hound::WavSpec {
    hound::WavSpec { channels, sample_rate: 16_000, bits_per_sample: bits, sample_format }
}

/// hound makes 24 and 32 bits EXTENSIBLE. Other people's readers of the same are ffmpeg and sox, below.
#[test]
fn wav_of_every_width_is_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let int = hound::SampleFormat::Int;
    for (bits, format) in [(8, int), (16, int), (24, int), (32, int), (32, hound::SampleFormat::Float)] {
        let top = 1i64 << (bits - 1);
        let samples: Vec<i32> =
            (0..5001i64).map(|i| ((i * 7_919_317 + 11) % (2 * top) - top) as i32).collect();
        let samples: Vec<i32> =
            if format == int { samples } else { samples.iter().map(|s| s % 1000).collect() };
        let path = write(dir.path(), "x.wav", spec(bits, 1, format), &samples);
        let want: Vec<f32> = match format {
            hound::SampleFormat::Int => samples.iter().map(|&s| (f64::from(s) / top as f64) as f32).collect(),
            hound::SampleFormat::Float => samples.iter().map(|&s| s as f32 / 1000.0).collect(),
        };
        for block in [1, 777, 1 << 16] {
            let (found, bases) = read(&path, options(16_000, None), block).unwrap();
            assert_eq!((&found, bases), (&want, 5001), "{bits}");
        }
    }
}

#[test]
fn wav_of_unknown_length_and_rf64_are_read_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "x.wav", spec(16, 1, hound::SampleFormat::Int), &[1, -2, 3, 4, 5]);
    let (want, _) = read(&path, options(16_000, None), 9).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for size in [0u32, u32::MAX] {
        let mut open = bytes.clone();
        open[40..44].copy_from_slice(&size.to_le_bytes());
        std::fs::write(&path, open).unwrap();
        assert_eq!(read(&path, options(16_000, None), 9).unwrap().0, want);
    }
    let mut long = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
    for n in [100u64, 10, 5] {
        long.extend(n.to_le_bytes());
    }
    long.extend([0; 4]);
    long.extend(&bytes[12..40]);
    long.extend(u32::MAX.to_le_bytes());
    long.extend(&bytes[44..]);
    std::fs::write(&path, &long).unwrap();
    assert_eq!(read(&path, options(16_000, None), 9).unwrap().0, want);
    std::fs::write(&path, &long[..long.len() - 4]).unwrap();
    let e = read(&path, options(16_000, None), 9).unwrap_err().to_string();
    assert!(e.contains("gives 3 of 5 samples"), "{e}");
}

/// Why hound does not get the file itself: see ARCHITECTURE.md. When one of these begins to work there, look again.
#[test]
fn hound_does_not_read_what_pipes_and_editors_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "x.wav", spec(16, 1, hound::SampleFormat::Int), &[1, -2, 3, 4, 5]);
    let (want, _) = read(&path, options(16_000, None), 9).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let fmt = &bytes[12..36];
    let data = |length: u32| [&b"data"[..], &length.to_le_bytes(), &bytes[44..]].concat();
    let riff = |chunks: &[&[u8]]| [&b"RIFF\xff\xff\xff\xffWAVE"[..], &chunks.concat()].concat();
    let long = [100u64, 10, 5].map(u64::to_le_bytes).concat();
    let ds64 = [&b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0"[..], &long, &[0; 4]].concat();
    for (what, bytes) in [
        ("a length that is not known", riff(&[fmt, &data(u32::MAX)])),
        ("an odd chunk and its padding", riff(&[fmt, b"LIST\x05\0\0\0INFO!\0", &data(10)])),
        ("RF64", [&ds64[..], fmt, &data(u32::MAX)].concat()),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path, options(16_000, None), 9).unwrap().0, want, "{what}");
        let other = hound::WavReader::new(&bytes[..])
            .and_then(|r| r.into_samples::<i16>().collect::<hound::Result<Vec<_>>>());
        assert!(other.is_err(), "hound reads {what}: {other:?}");
    }
}

#[test]
fn channels_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let int = hound::SampleFormat::Int;
    let path = write(dir.path(), "s.wav", spec(16, 2, int), &[100, 300, -200, 400]);
    let at = |channel| read(&path, options(16_000, channel), 9).map(|(x, _)| x);
    let scaled = |x: &[f32]| x.iter().map(|v| v / 32_768.0).collect::<Vec<_>>();
    assert_eq!(at(None).unwrap(), scaled(&[200.0, 100.0]));
    assert_eq!(at(Some(Channel::One(1))).unwrap(), scaled(&[100.0, -200.0]));
    assert_eq!(at(Some(Channel::One(2))).unwrap(), scaled(&[300.0, 400.0]));
    assert!(at(Some(Channel::One(3))).unwrap_err().to_string().contains("has no channel 3, only 2"));
    let path = write(dir.path(), "six.wav", spec(16, 6, int), &[6, 12, 18, 24, 30, 36]);
    let e = read(&path, options(16_000, None), 9).unwrap_err();
    assert!(e.is_usage() && e.to_string().contains("has 6 channels; say which by --channel"), "{e}");
    assert_eq!(read(&path, options(16_000, Some(Channel::Mix)), 9).unwrap().0, scaled(&[21.0]));
}

#[test]
fn strange_recordings_are_defined() {
    let dir = tempfile::tempdir().unwrap();
    let int = hound::SampleFormat::Int;
    let path = write(dir.path(), "empty.wav", spec(16, 1, int), &[]);
    // A data chunk of 0 bytes is one of unknown length, and there is nothing.
    assert_eq!(read(&path, options(16_000, None), 9).unwrap(), (Vec::new(), 0));
    for loudness in [Loudness::TwoPass, Loudness::Fixed(0.5), Loudness::None] {
        for value in [0, 8192] {
            let path = write(dir.path(), "dc.wav", spec(16, 1, int), &[value; 3000]);
            let (x, _) = read(&path, AudioOptions { loudness, ..options(16_000, None) }, 99).unwrap();
            assert!(x.len() == 3000 && x.iter().all(|v| v.is_finite()));
        }
    }
    let path = write(dir.path(), "nan.wav", spec(32, 1, hound::SampleFormat::Float), &[1, 2, 3]);
    let mut bytes = std::fs::read(&path).unwrap();
    let n = bytes.len();
    bytes[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let e = read(&path, options(16_000, None), 9).unwrap_err().to_string();
    assert!(e.contains("sample 2 (0.000 s) is NaN"), "{e}");
    let path = write(dir.path(), "rate.wav", spec(16, 1, int), &[1, 2]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[24..28].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let e = read(&path, options(16_000, None), 9).unwrap_err().to_string();
    assert!(e.contains("0 samples a second"), "{e}");
    for (name, bytes, say) in [
        ("text.wav", &b"just some words"[..], "is not audio"),
        ("film.mkv", b"\x1a\x45\xdf\xa3....", "is a video"),
        ("dna.wav", b">chr1\nACGT\n", "is FASTA"),
        ("bad.mp3", b"\xff\xfb\xf0\x00 nothing of it", "no MP3 frame"),
        ("sound.aiff", b"FORM\0\0\0\0AIFFCOMM", "AIFF is not supported"),
        ("text.txt", b"the wide world", "is not audio"),
        ("bad.flac", b"fLaC nothing of it", "damaged"),
    ] {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        let e = read(&path, options(16_000, None), 9).unwrap_err().to_string();
        assert!(e.contains(say) && e.lines().count() == 1, "{e}");
    }
}

/// Whether a program is there; `MSEQ_REQUIRE_FFMPEG` makes its absence a failure.
fn has(program: &str, version: &str) -> bool {
    let found = Command::new(program).arg(version).output().is_ok_and(|o| o.status.success());
    assert!(
        found || std::env::var_os("MSEQ_REQUIRE_FFMPEG").is_none(),
        "{program} is required, and is not there"
    );
    if !found {
        println!("skipped: no {program}");
    }
    found
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let out = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Noise and a tone through each encoder, against what ffmpeg makes of the same file.
#[test]
fn decoders_agree_with_ffmpeg() {
    if !has("ffmpeg", "-version") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let wav = dir.path().join("x.wav");
    // A tone with noise on the left, a rising one on the right.
    let sound = "aevalsrc=0.4*sin(2*PI*440*t)+0.2*(random(0)-0.5)|0.5*sin(2*PI*(300+900*t)*t):s=44100:d=3";
    ffmpeg(&["-f", "lavfi", "-i", sound, "-c:a", "pcm_s16le", wav.to_str().unwrap()]);
    for (name, args, most) in [
        ("a.flac", &["-c:a", "flac"][..], 0.0),
        ("b.flac", &["-c:a", "flac", "-sample_fmt", "s32"], 0.0),
        ("u8.wav", &["-c:a", "pcm_u8"], 0.0),
        ("s24.wav", &["-c:a", "pcm_s24le"], 0.0),
        ("s32.wav", &["-c:a", "pcm_s32le"], 0.0),
        ("long.wav", &["-c:a", "pcm_s16le", "-rf64", "always"], 0.0),
        ("f32.wav", &["-c:a", "pcm_f32le"], 0.0),
        ("a.mp3", &["-c:a", "libmp3lame", "-b:a", "128k"], 1e-4),
        ("a.ogg", &["-c:a", "libvorbis", "-q:a", "5", "-page_duration", "100000"], 1e-4),
        ("a.m4a", &["-c:a", "aac", "-aac_pns", "0", "-b:a", "128k"], 1e-4),
    ] {
        let path = dir.path().join(name);
        let path = path.to_str().unwrap();
        ffmpeg(&[&["-i", wav.to_str().unwrap()], args, &[path]].concat());
        let raw = ffmpeg(&["-i", path, "-f", "f32le", "-c:a", "pcm_f32le", "-"]);
        let want = floats(&raw);
        for channel in [1, 2] {
            let want: Vec<f32> = want.iter().skip(channel - 1).step_by(2).copied().collect();
            let (found, _) =
                read(Path::new(path), options(44_100, Some(Channel::One(channel))), 1000).unwrap();
            let far = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name}: {} samples (ffmpeg {}), largest difference {far:e}", found.len(), want.len());
            assert_eq!(found.len(), want.len(), "{name}");
            assert!(far <= most, "{name}: {far:e}");
        }
    }
    // Every version of MP3, with a count and without, rates that vary, and AAC without a container. What begins
    // in silence, or ends in it, has first frames that tell nothing of the rest.
    for (sound, kind) in [("0.5*gte(t,2)", "late"), ("0.5*lt(t,2)", "early")] {
        let sound = format!("aevalsrc='{sound}*(random(0)-0.5)':s=44100:d=6");
        ffmpeg(&["-y", "-f", "lavfi", "-i", &sound, "-c:a", "pcm_s16le", wav.to_str().unwrap()]);
        for (name, args, rate) in [
            ("vbr.mp3", &["-c:a", "libmp3lame", "-q:a", "4"][..], 44_100),
            ("open.mp3", &["-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0"], 44_100),
            ("abr.mp3", &["-c:a", "libmp3lame", "-abr", "1", "-b:a", "64k", "-write_xing", "0"], 44_100),
            ("v2.mp3", &["-c:a", "libmp3lame", "-ar", "22050", "-q:a", "6"], 22_050),
            ("v25.mp3", &["-c:a", "libmp3lame", "-ar", "8000", "-b:a", "24k", "-write_xing", "0"], 8_000),
            ("bare.aac", &["-c:a", "aac", "-aac_pns", "0", "-f", "adts"], 44_100),
        ] {
            let path = dir.path().join(name);
            let path = path.to_str().unwrap();
            ffmpeg(&[&["-i", wav.to_str().unwrap()], args, &[path]].concat());
            let want = floats(&ffmpeg(&["-i", path, "-f", "f32le", "-c:a", "pcm_f32le", "-"]));
            let (found, _) = read(Path::new(path), options(rate, None), 1000).unwrap();
            let far = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{kind} {name}: {} samples (ffmpeg {}), {far:e}", found.len(), want.len());
            assert_eq!(found.len(), want.len(), "{kind} {name}");
            assert!(far <= 1e-4, "{kind} {name}: {far:e}");
        }
    }
    let flac = std::fs::read(dir.path().join("a.flac")).unwrap();
    // Ogg as a listener to a running stream has it: headers, then pages from where the stream was.
    let ogg = std::fs::read(dir.path().join("a.ogg")).unwrap();
    let (mut pages, mut at) = (Vec::new(), 0);
    while at < ogg.len() {
        let table = &ogg[at + 27..][..usize::from(ogg[at + 26])];
        let end = at + 27 + table.len() + table.iter().map(|&n| usize::from(n)).sum::<usize>();
        pages.push(&ogg[at..end]);
        at = end;
    }
    let is_header = |page: &&&[u8]| page[6..14] == [0; 8];
    let later = pages.len() / 2;
    let radio: Vec<&[u8]> = pages.iter().filter(is_header).chain(&pages[later..]).copied().collect();
    let path = dir.path().join("radio.ogg");
    std::fs::write(&path, radio.concat()).unwrap();
    let want = ffmpeg(&["-i", path.to_str().unwrap(), "-f", "f32le", "-ac", "1", "-"]).len() / 4;
    let (found, _) = read(&path, options(44_100, None), 1000).unwrap();
    assert!(later > 3 && found.len() == want && want > 10_000, "{later} {} {want}", found.len());
    // Its end is missing.
    std::fs::write(&path, pages[..later].concat()).unwrap();
    assert!(read(&path, options(44_100, None), 1000).is_err());
    // Tags of MP3 before another format.
    let (whole, tagged) = (dir.path().join("a.flac"), dir.path().join("tagged.flac"));
    std::fs::write(&tagged, [&b"ID3\x04\0\0\0\0\0\x05title"[..], &flac].concat()).unwrap();
    let of = |path: &Path| read(path, options(44_100, None), 1000).unwrap();
    assert!(of(&tagged) == of(&whole));
    let cut = dir.path().join("cut.flac");
    std::fs::write(&cut, &flac[..flac.len() / 2]).unwrap();
    let e = read(&cut, options(44_100, None), 1000).unwrap_err().to_string();
    assert!(e.contains("samples: the file is truncated or damaged; "), "{e}");
}

/// A stream that does not say how long it is, and ends within a frame; in a file and through a pipe.
#[test]
fn streams_without_a_count_that_were_cut_off_are_errors() {
    if !has("ffmpeg", "-version") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sound = "aevalsrc=0.4*sin(2*PI*440*t)+0.2*(random(0)-0.5):s=16000:d=3";
    for (name, args) in [
        ("a.flac", &["-f", "flac"][..]),
        ("a.mp3", &["-f", "mp3", "-write_xing", "0", "-id3v2_version", "0"]),
        ("a.aac", &["-c:a", "aac", "-f", "adts"]),
    ] {
        // Through a pipe ffmpeg can't go back to write a count.
        let whole = ffmpeg(&[&["-f", "lavfi", "-i", sound], args, &["-"]].concat());
        let path = dir.path().join(name);
        std::fs::write(&path, &whole).unwrap();
        let want = floats(&ffmpeg(&["-i", path.to_str().unwrap(), "-f", "f32le", "-"])).len();
        let piped = |bytes: &[u8]| -> crate::Result<usize> {
            let (head, rest) = bytes.split_at(super::HEAD);
            let mut decoder = super::piped("pipe", head.to_vec(), std::io::Cursor::new(rest.to_vec()))?;
            let mut out = Vec::new();
            while decoder.next(&mut out)? {}
            Ok(out.len())
        };
        assert_eq!(read(&path, options(16_000, None), 1000).unwrap().0.len(), want, "{name}");
        assert_eq!(piped(&whole).unwrap(), want, "{name}");
        for cut in [1, 100] {
            let short = &whole[..whole.len() - cut];
            std::fs::write(&path, short).unwrap();
            for e in [read(&path, options(16_000, None), 1000).unwrap_err(), piped(short).unwrap_err()] {
                assert!(e.to_string().contains("was cut off"), "{name} {cut}: {e}");
            }
        }
    }
}

/// What symphonia decodes wrong, or half, is refused.
#[test]
fn codings_that_are_not_decoded_right_are_refused() {
    if !has("ffmpeg", "-version") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let six = "aevalsrc=0.1|0.2*sin(900*t)|0.1*sin(t)|0.3*sin(300*t)|0.1|0.2:s=44100:d=1:c=5.1";
    for (name, codec, want) in [
        ("six.ogg", "libvorbis", "Ogg Vorbis of 6 channels is not supported; convert it: ffmpeg -i "),
        ("six.m4a", "aac", "AAC of more than two channels is not supported; convert it: ffmpeg -i "),
        ("six.aac", "aac", "AAC of more than two channels is not supported; convert it: ffmpeg -i "),
    ] {
        let path = dir.path().join(name);
        ffmpeg(&["-f", "lavfi", "-i", six, "-c:a", codec, path.to_str().unwrap()]);
        for channel in [None, Some(Channel::Mix)] {
            let e = read(&path, options(16_000, channel), 1000).unwrap_err().to_string();
            assert!(e.contains(want), "{name}: {e}");
        }
    }
    // An AAC-LC whose configuration says that half of its sound is elsewhere, as HE-AAC encoders write it.
    let path = dir.path().join("he.m4a");
    let low = "aevalsrc=0.3*sin(2000*t):s=22050:d=1";
    ffmpeg(&["-f", "lavfi", "-i", low, "-c:a", "aac", path.to_str().unwrap()]);
    let good = std::fs::read(&path).unwrap();
    assert!(read(&path, options(16_000, None), 1000).is_ok());
    // ffmpeg writes the mark with the bit unset.
    let mark = good.windows(3).position(|w| w[0] == 0x56 && w[1] == 0xe5 && w[2] & 0x80 == 0).unwrap();
    let mut bad = good;
    bad[mark + 2] |= 0x80;
    std::fs::write(&path, &bad).unwrap();
    let e = read(&path, options(16_000, None), 1000).unwrap_err().to_string();
    assert!(e.contains("HE-AAC (spectral band replication) is not supported"), "{e}");
}

fn sox(args: &[&str]) -> Vec<u8> {
    let out = Command::new("sox").args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Lossless formats sample for sample, and another program's resampler.
#[test]
fn decoders_and_the_resampler_agree_with_sox() {
    if !has("sox", "--version") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for (name, bits) in
        [("s8.wav", "8"), ("s16.wav", "16"), ("s24.wav", "24"), ("a.flac", "16"), ("b.flac", "24")]
    {
        let (path, synth) = (at(name), ["synth", "1.3", "sine", "300-3000", "pinknoise", "vol", "0.4"]);
        sox(&[&["-R", "-n", "-r", "44100", "-c", "2", "-b", bits, &path], &synth[..]].concat());
        for (channel, remix) in [(1, "1"), (2, "2")] {
            let want = floats(&sox(&[&path, "-t", "f32", "-", "remix", remix]));
            let (found, _) =
                read(Path::new(&path), options(44_100, Some(Channel::One(channel))), 999).unwrap();
            assert!(found == want && found.len() == 57_330, "{name}, channel {channel}");
        }
    }
    // Tones that both pass.
    for (from, to) in [(44_100u32, 16_000u32), (48_000, 16_000), (8000, 16_000), (22_050, 16_000)] {
        let path = at("tones.wav");
        let spec =
            ["-R", "-n", "-r", &from.to_string(), "-c", "1", "-e", "floating-point", "-b", "32", &path];
        sox(&[
            &spec[..],
            &["synth", "1", "sine", "440", "sine", "1700", "sine", "3000", "remix", "-", "vol", "0.9"],
        ]
        .concat());
        let want = floats(&sox(&[&path, "-t", "f32", "-", "rate", "-v", "-L", &to.to_string()]));
        let (found, _) = read(Path::new(&path), options(to, None), 999).unwrap();
        assert_eq!(found.len(), want.len(), "{from}");
        let middle = want.len() / 4..want.len() * 3 / 4;
        let far = middle.clone().map(|i| (found[i] - want[i]).abs()).fold(0.0, f32::max);
        let loud = middle.map(|i| want[i].abs()).fold(0.0, f32::max);
        println!("{from} to {to}: largest difference from sox {far:e} of {loud}");
        assert!(loud > 0.3 && far < 1e-5, "{from}: {far:e} of {loud}");
    }
}

/// What a source gives of some files: a line for each record, its samples, and the error that ends it.
fn stream(
    paths: &[String],
    options: AudioOptions,
    block: usize,
    threads: usize,
) -> (Vec<String>, Vec<f32>, String) {
    let set = InputSet::resolve_audio(paths, false).unwrap();
    let mut source = AudioSource::open(set, options, block).with_threads(threads);
    let (mut lines, mut samples, mut bytes) = (Vec::new(), Vec::new(), 0);
    let error = loop {
        match source.next() {
            Ok(Some(Item::Samples(more))) => {
                assert!(more.len() <= block && !more.is_empty());
                samples.extend(more);
            }
            Ok(Some(item)) => lines.push(format!("{item:?} {:?} {}", source.recording(), samples.len())),
            Ok(None) => break String::new(),
            Err(e) => break e.to_string(),
        }
        assert!(source.bytes_done() >= bytes);
        bytes = source.bytes_done();
    };
    assert_eq!(source.samples_read(), samples.len() as u64);
    (lines, samples, error)
}

/// Of any number of threads, and with a fault in its turn and not before.
#[test]
fn recordings_decoded_ahead_are_the_same_stream() {
    let dir = tempfile::tempdir().unwrap();
    let int = hound::SampleFormat::Int;
    let paths: Vec<String> = (0..13usize)
        .map(|i| {
            let rate = [16_000, 8000, 44_100][i % 3];
            let spec = hound::WavSpec { sample_rate: rate, ..spec(16, 1 + i as u16 % 2, int) };
            // Longer than what a thread may hold, empty, and short.
            let len = [70_000, 0, 1, 999][i % 4] * usize::from(spec.channels);
            let samples: Vec<i32> =
                (0..len as i32).map(|t| (t * 7919 + i as i32) % 30_011 - 15_000).collect();
            write(dir.path(), &format!("{i}.wav"), spec, &samples).display().to_string()
        })
        .collect();
    for loudness in [Loudness::None, Loudness::TwoPass] {
        let options = AudioOptions { loudness, ..options(16_000, None) };
        let alone = stream(&paths, options, 1000, 0);
        assert!(alone.0.len() == 26 && alone.1.len() > 100_000 && alone.2.is_empty(), "{}", alone.2);
        for threads in [1, 2, 5, 64] {
            assert!(stream(&paths, options, 1000, threads) == alone, "{threads}");
        }
    }
    let bytes = std::fs::read(&paths[8]).unwrap();
    std::fs::write(&paths[8], &bytes[..bytes.len() - 9]).unwrap();
    std::fs::write(&paths[9], &bytes[..20]).unwrap();
    let alone = stream(&paths, options(16_000, None), 1000, 0);
    assert!(alone.0.len() == 17 && alone.2.contains("8.wav"), "{}", alone.2);
    for threads in [2, 5] {
        assert!(stream(&paths, options(16_000, None), 1000, threads) == alone, "{threads}");
    }
    // What no one listens to ends by itself.
    let set = InputSet::resolve_audio(&paths, false).unwrap();
    let mut source = AudioSource::open(set, options(16_000, None), 1000).with_threads(3);
    source.next().unwrap();
    #[cfg(target_os = "linux")]
    assert!(decoding_threads() > 0);
    drop(source);
    #[cfg(target_os = "linux")]
    for wait in 0.. {
        if decoding_threads() == 0 {
            break;
        }
        assert!(wait < 1000, "threads that decode are left");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Threads of this process that decode ahead; no other test has any.
#[cfg(target_os = "linux")]
fn decoding_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "mseq-decode").count()
}
