//! Jobs on recordings that are stopped, resumed, shared out and joined.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hound::WavSpec;

use super::audio::{Place, clean_model, frames_model};
use crate::common::sound::{PCM, seconds, sound, write_wav};
use crate::common::{kill_at_checkpoint, mamba_seq, rows};

#[cfg(unix)]
#[test]
fn stopped_and_resumed_it_is_the_same_file() {
    let place = Place::new(frames_model());
    // Minutes, so that there are checkpoints; the second file has to be resampled.
    write_wav(&place.at("a.wav"), PCM, &sound(13, 16_000 * 240));
    write_wav(&place.at("b.wav"), WavSpec { sample_rate: 22_050, ..PCM }, &sound(14, 300_000));
    let options = ["--threads", "1", "--resume", "--window", "300ms", "--stride", "100ms"];
    let args = place.args(&["a.wav", "b.wav"], &options);
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mamba-seq"));
        command.args(&args).current_dir(place.folder.path()).stderr(Stdio::null());
        command
    };
    assert!(command().status().unwrap().success());
    let output = place.at("out.parquet");
    let whole = std::fs::read(&output).unwrap();
    let checkpoint = place.at("out.parquet.partial.checkpoint");
    for signal in ["-KILL", "-INT", "-TERM"] {
        std::fs::remove_file(&output).unwrap();
        if signal == "-KILL" {
            kill_at_checkpoint(&mut command(), &checkpoint);
        } else {
            let mut child = command().spawn().unwrap();
            let start = Instant::now();
            while !checkpoint.exists() {
                assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(120));
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            let code = if signal == "-INT" { 130 } else { 143 };
            assert_eq!(child.wait().unwrap().code(), Some(code));
        }
        assert!(checkpoint.exists() && !output.exists(), "{signal}");
        assert!(command().status().unwrap().success());
        assert!(std::fs::read(&output).unwrap() == whole, "{signal}: another file");
        assert!(!checkpoint.exists());
    }
    // What hears other samples is another job.
    std::fs::remove_file(&output).unwrap();
    kill_at_checkpoint(&mut command(), &checkpoint);
    for (more, words) in [
        (["--channel", "left"], "channel was 'mix' and is 'left'"),
        (["--normalize", "fixed:2"], "normalize was 'none' and is 'fixed:2'"),
    ] {
        let ran = mamba_seq(place.folder.path(), &[&args[..], &more].concat());
        assert!(ran.code == 1 && ran.stderr.contains(words), "{}", ran.stderr);
    }
}

#[test]
fn shards_join_to_the_whole() {
    let place = Place::new(clean_model());
    let names: Vec<String> = (0..5).map(|i| format!("r{i}.wav")).collect();
    for (i, name) in names.iter().enumerate() {
        let rate = [16_000, 8000, 44_100][i % 3];
        let samples = [20_000, 3000, 50_000, 0, 9000][i];
        write_wav(&place.at(name), WavSpec { sample_rate: rate, ..PCM }, &sound(i as u32, samples));
    }
    let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let whole = place.embed(&inputs, &["--window", "100ms"]);
    let whole_times = seconds(&place.at("out.parquet"));
    let mut merge = vec!["merge".to_owned(), "-o".into(), "merged.parquet".into(), "-q".into()];
    for i in 1..=3 {
        let (shard, output) = (format!("{i}/3"), format!("s{i}.parquet"));
        place.embed(&inputs, &["--window", "100ms", "--shard", &shard, "-o", &output]);
        merge.push(output);
    }
    let merge: Vec<&str> = merge.iter().map(String::as_str).collect();
    let ran = mamba_seq(place.folder.path(), &merge);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(rows(&place.at("merged.parquet")) == whole);
    assert_eq!(seconds(&place.at("merged.parquet")), whole_times);
    let ran = mamba_seq(place.folder.path(), &[&merge[..merge.len() - 1]].concat());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}

/// With `--context` a recording is shared out, too, between its pieces.
#[test]
fn shards_part_a_recording_between_pieces_of_context() {
    for model in [clean_model(), frames_model()] {
        let place = Place::new(model);
        // The long one at another rate than the model's, beside shorter ones and one of no sample.
        for (i, (rate, samples)) in
            [(16_000, 9_000), (44_100, 200_000), (8_000, 0), (8_000, 30_000)].into_iter().enumerate()
        {
            let spec = WavSpec { sample_rate: rate, ..PCM };
            write_wav(&place.at(&format!("r{i}.wav")), spec, &sound(i as u32, samples));
        }
        let inputs = ["r0.wav", "r1.wav", "r2.wav", "r3.wav"];
        for (options, of) in [
            (&["--window", "50ms", "--context", "30", "--overlap", "7"][..], 4),
            (&["--window", "90ms", "--stride", "40ms", "--context", "30", "--overlap", "7"], 3),
            (&["--window", "333", "--context", "11"], 7),
            (&["--pool", "none", "--context", "30", "--overlap", "12"], 3),
            (&["--window", "record", "--context", "30"], 3),
        ] {
            place.embed(&inputs, options);
            let whole = rows(&place.at("out.parquet"));
            let mut merge = vec!["merge".to_owned(), "-o".into(), "merged.parquet".into(), "-q".into()];
            let (mut counts, mut planned) = (Vec::new(), Vec::new());
            for i in 1..=of {
                let (shard, output) = (format!("{i}/{of}"), format!("s{i}.parquet"));
                let options = [options, &["--shard", &shard, "-o", &output]].concat();
                place.embed(&inputs, &options);
                counts.push(rows(&place.at(&output)).len());
                let plan = mamba_seq(
                    place.folder.path(),
                    &place.args(&inputs, &[&options[..], &["--dry-run"]].concat()),
                );
                assert_eq!(plan.code, 0, "{}", plan.stderr);
                planned.push(String::from_utf8(plan.stdout).unwrap() + &plan.stderr);
                merge.push(output);
            }
            let merge: Vec<&str> = merge.iter().map(String::as_str).collect();
            let ran = mamba_seq(place.folder.path(), &merge);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{options:?}");
            let merged = rows(&place.at("merged.parquet"));
            assert_eq!(merged.len(), whole.len(), "{options:?} {counts:?}");
            assert!(merged == whole, "{options:?}");
            // The long recording is most of all: whoever took it whole would have most rows.
            let most = counts.iter().copied().max().unwrap();
            if options[1] != "record" {
                assert!(most * 2 < whole.len() * 3 / 2, "{options:?} {counts:?}");
            }
            // As a dry run counts them, which knows nothing of a last window that no token begins in.
            for (count, plan) in counts.iter().zip(&planned) {
                let rows = plan.lines().find_map(|line| line.strip_prefix("rows ")).unwrap();
                let planned: usize = rows.trim().replace(',', "").parse().unwrap();
                assert!((*count..=count + 1).contains(&planned), "{count}, {options:?}: {plan}");
            }
        }
    }
}
