//! `pull` from a real registry.

use crate::peer::Peer;
use crate::support::run;

#[test]
fn an_image_that_is_not_there_is_told_as_that() {
    let Some(peer) = Peer::start() else { return };
    let output = peer.home.join("x.sif");
    let mut pull = peer.home.sigsif(["pull"]);
    pull.arg(&output)
        .arg(format!("docker://{}/none/here:1", peer.host()));
    run(&mut pull)
        .expect(255)
        .says("no such image in the registry");
    assert!(!output.exists());
}
