//! Kept columns belong to their records, whatever the rest does.

use proptest::prelude::*;

use crate::common::kept::{KEEP, batches, check, table, write};
use crate::common::{golden_model, mamba_seq, rows};

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 30, ..ProptestConfig::default() })]

    /// Any chunk, number of threads, windows and shards: each row has the values of its record, and
    /// the numbers that it has without them.
    #[test]
    fn each_row_has_the_values_of_its_record(
        n in 1usize..300,
        most in 1usize..80,
        chunk in prop_oneof![1u32..8, 8u32..5000],
        threads in 1u32..4,
        window in 1u32..90,
        shards in 1u32..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let table = table(n, most);
        write(&folder.path().join("t.parquet"), &table);
        let embed = |options: &[&str]| {
            let (model, window) = (golden_model("d13-n16-k4-e2"), window.to_string());
            let args = ["embed", "t.parquet", "--model", &model, "--window", &window, "-q"];
            let ran = mamba_seq(folder.path(), &[&args[..], options].concat());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        };
        embed(&["-o", "plain.parquet"]);
        let (chunk, threads) = (chunk.to_string(), threads.to_string());
        let mut merge = vec!["merge".to_owned(), "-q".to_owned()];
        for i in 1..=shards {
            let shard = format!("{i}/{shards}");
            embed(&["--keep", KEEP, "--chunk", &chunk, "--threads", &threads, "--shard", &shard]);
            merge.push(format!("t.embeddings.{i}-of-{shards}.parquet"));
        }
        merge.extend(["-o", "kept.parquet"].map(str::to_owned));
        let ran = mamba_seq(folder.path(), &merge.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(ran.code, 0, "{}", ran.stderr);
        let (plain, kept) = (folder.path().join("plain.parquet"), folder.path().join("kept.parquet"));
        prop_assert_eq!(check(&batches(&kept), &table, KEEP), rows(&plain).len());
        prop_assert_eq!(rows(&kept), rows(&plain));
        // And without a filter, which hands the values over in another way.
        embed(&["--keep", KEEP, "--chunk", &chunk, "--threads", &threads, "-o", "kept.parquet"]);
        prop_assert_eq!(check(&batches(&kept), &table, KEEP), rows(&plain).len());
        prop_assert_eq!(rows(&kept), rows(&plain));
    }
}
