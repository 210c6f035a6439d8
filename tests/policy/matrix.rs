//! Signatures of every state, alone and together, against every demand. What has to come out is
//! worked out here from the states alone.

use crate::bench::{Bench, Seal, judge};
use crate::support::parallel;
use sigsif::policy::{Demands, Tolerated};
use sigsif::scope::Selection;
use std::collections::BTreeSet;

const SEALS: [Seal; 9] = [
    Seal::Alice,
    Seal::Bob,
    Seal::Stranger,
    Seal::Expired,
    Seal::DamagedAlice,
    Seal::KeyOne,
    Seal::KeyTwo,
    Seal::UnknownKey,
    Seal::DamagedKey,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Good,
    Unknown,
    Bad,
}

fn state(seal: Seal) -> State {
    match seal {
        Seal::Alice | Seal::Bob | Seal::KeyOne | Seal::KeyTwo => State::Good,
        Seal::Stranger | Seal::UnknownKey => State::Unknown,
        Seal::Expired | Seal::DamagedAlice | Seal::DamagedKey => State::Bad,
    }
}

/// What is demanded, in words of this test.
#[derive(Clone, Copy, Debug)]
struct Demand {
    require: &'static [Seal],
    any: usize,
    ignore: bool,
}

const DEMANDS: &[Demand] = &[
    Demand {
        require: &[],
        any: 0,
        ignore: false,
    },
    Demand {
        require: &[Seal::Alice],
        any: 0,
        ignore: false,
    },
    Demand {
        require: &[Seal::KeyOne],
        any: 0,
        ignore: false,
    },
    Demand {
        require: &[Seal::Alice, Seal::KeyTwo],
        any: 0,
        ignore: false,
    },
    Demand {
        require: &[Seal::Stranger],
        any: 0,
        ignore: false,
    },
    Demand {
        require: &[Seal::Expired],
        any: 0,
        ignore: true,
    },
    Demand {
        require: &[],
        any: 1,
        ignore: false,
    },
    Demand {
        require: &[],
        any: 2,
        ignore: false,
    },
    Demand {
        require: &[],
        any: 3,
        ignore: false,
    },
    Demand {
        require: &[],
        any: 0,
        ignore: true,
    },
    Demand {
        require: &[Seal::Alice],
        any: 0,
        ignore: true,
    },
    Demand {
        require: &[Seal::Stranger],
        any: 0,
        ignore: true,
    },
    Demand {
        require: &[],
        any: 2,
        ignore: true,
    },
    Demand {
        require: &[Seal::KeyOne],
        any: 2,
        ignore: true,
    },
];

fn should_verify(seals: &[Seal], demand: Demand) -> bool {
    let good: BTreeSet<Seal> = seals
        .iter()
        .copied()
        .filter(|seal| state(*seal) == State::Good)
        .collect();
    let harmless = seals.iter().all(|seal| match state(*seal) {
        State::Good => true,
        State::Unknown => demand.ignore,
        State::Bad => false,
    });
    harmless
        && good.len() >= demand.any.max(1)
        && demand.require.iter().all(|seal| good.contains(seal))
}

/// Up to three signatures: pairs in both orders, triples in one.
fn mixtures() -> Vec<Vec<Seal>> {
    let mut all = vec![vec![]];
    all.extend(SEALS.map(|seal| vec![seal]));
    for (at, first) in SEALS.iter().enumerate() {
        all.extend(SEALS.map(|second| vec![*first, second]));
        for (next, second) in SEALS.iter().enumerate().skip(at) {
            let thirds = SEALS.iter().skip(next);
            all.extend(thirds.map(|third| vec![*third, *first, *second]));
        }
    }
    all
}

#[test]
fn every_mixture_of_signatures_meets_every_demand() {
    let bench = Bench::new();
    let material = bench.material();
    let mixtures = mixtures();
    let faults = parallel(&mixtures, |seals| {
        let image = bench.sealed(seals);
        let mut faults = Vec::new();
        for demand in DEMANDS {
            let required = demand.require.iter().map(|seal| bench.required(*seal));
            let demands = Demands {
                required: required.collect(),
                at_least: demand.any,
                accepted: None,
                tolerated: match demand.ignore {
                    true => Tolerated::UnknownSigners,
                    false => Tolerated::Nothing,
                },
            };
            let report = judge(&image, &material, &demands, &Selection::default());
            let expected = should_verify(seals, *demand);
            if report.is_verified() != expected {
                faults.push(format!("{seals:?} {demand:?}: {:?}", report.failure()));
            }
            for (signature, seal) in report.signatures.iter().zip(seals) {
                let unknown = state(*seal) == State::Unknown;
                let right = signature.unknown_signer == unknown
                    && signature.ignored == (unknown && demand.ignore)
                    && signature.failure.is_none() == (state(*seal) == State::Good);
                if !right {
                    faults.push(format!("{seals:?} {demand:?}: {signature:?}"));
                }
            }
        }
        faults
    });
    let faults: Vec<_> = faults.concat();
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
    assert_eq!(mixtures.len(), 1 + 9 + 81 + 165);
}
