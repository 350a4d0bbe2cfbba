//! BED.

use std::path::Path;

use mseq_source::RegionSet;

use super::{
    case::{Case, Kind, Outcome},
    mutate::damage,
    pack::gzip,
};
use crate::random::Random;

pub(super) struct Bed;

fn text(random: &mut Random) -> String {
    let mut text = random.pick(&["", "# c\n", "track name=x\n", "browser position chr1\n"]).to_string();
    for _ in 0..1 + random.below(12) {
        let start = random.below(1000);
        let end = start + 1 + random.below(500);
        let rest = random.pick(&["", "\tn", "\t.\t0\t-", "\tn\t0\t+\t1\t2\t0\t1\t1\t0"]);
        text += &format!("r{}\t{start}\t{end}{rest}\n", random.below(4));
    }
    text
}

impl Kind for Bed {
    fn name(&self) -> &'static str {
        "bed"
    }

    fn case(&self, damaged: bool, random: &mut Random) -> Case {
        let mut bytes = text(random).into_bytes();
        let packed = random.one_in(5);
        if damaged {
            damage(&mut bytes, &[text(random).into_bytes()], true, random);
        }
        if packed {
            bytes = gzip(&bytes);
            if damaged && random.one_in(2) {
                damage(&mut bytes, &[], false, random);
            }
        }
        Case::new([("x.bed".to_owned(), bytes)].into(), random)
    }

    fn read(&self, _case: &Case, folder: &Path) -> Outcome {
        let set = match RegionSet::open(&folder.join("x.bed")) {
            Ok(set) => set,
            Err(e) => return Outcome::refused(&e),
        };
        let grouped: usize = set.contigs().iter().map(|contig| set.of(contig).len()).sum();
        let sorted = set.contigs().iter().all(|contig| {
            set.of(contig).is_sorted_by_key(|i| (i.start, i.end))
                && set.of(contig).iter().all(|i| i.start < i.end && Some(i.end) <= set.last_end(contig))
        });
        match sorted && grouped == set.intervals().len() && grouped > 0 {
            true => Outcome::Read,
            false => Outcome::Wrong("intervals are lost, empty or not in order".to_owned()),
        }
    }
}
