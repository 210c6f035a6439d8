//! `sign --cosign` and `verify --cosign` of images that stay in a registry.

use crate::peer::Peer;
use crate::server::{MANIFEST, Registry, digest};
use crate::support::{Home, Outcome, project, read_peers, run};
use serde_json::{Value, json};

pub fn key(name: &str) -> String {
    let keys = project().join("fixtures/peers/cosign/keys");
    keys.join(name).display().to_string()
}

fn sign(home: &Home, with: &str, uri: &str) -> Outcome {
    let mut sign = home.sigsif(["sign", "--cosign", "--key", &key(with), uri]);
    run(sign.env("COSIGN_PASSWORD", "secret"))
}

fn verify(home: &Home, args: &[&str], uri: &str) -> Outcome {
    let mut verify = home.sigsif(["verify", "--cosign"]);
    run(verify.args(args).arg(uri))
}

/// An image without any signature in a registry; its digest.
pub fn fill(home: &Home, host: &str) -> String {
    home.write("one.oci.sif", &read_peers("cosign/sif/one.oci.sif"));
    let uri = format!("docker://{host}/lab/one:1");
    let outcome = run(&mut home.sigsif(["push", "--json", "one.oci.sif", &uri])).expect(0);
    let told: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    told["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_signed_in_a_registry_is_accepted_by_cosign_and_the_other_way_round() {
    let Some(peer) = Peer::start() else { return };
    let home = &peer.home;
    let named = fill(home, &peer.host());
    let uri = format!("docker://{}/lab/one:1", peer.host());
    verify(home, &["--key", &key("p256.pub")], &uri)
        .expect(255)
        .says("Image has 0 associated signatures");
    sign(home, "p256.key", &uri)
        .expect(0)
        .says(&format!("Signature of {named} added"));
    sign(home, "rsa2048.key", &uri)
        .expect(0)
        .says("The registry had 1 signatures of it, which stay");
    for signer in ["p256.pub", "rsa2048.pub"] {
        let outcome = verify(home, &["--key", &key(signer)], &uri)
            .expect(0)
            .says(&format!("Image digest: {named}"));
        let payload: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        let claimed = &payload[0]["critical"]["identity"]["docker-reference"];
        assert_eq!(claimed, &json!(format!("{}/lab/one", peer.host())));
    }
    let both = ["--key", &key("p256.pub"), "--key", &key("rsa2048.pub")];
    verify(
        home,
        &[both.as_slice(), &["--require-any", "2"]].concat(),
        &uri,
    )
    .expect(0);
    verify(
        home,
        &[both.as_slice(), &["--require-any", "3"]].concat(),
        &uri,
    )
    .expect(255);
    verify(home, &["--key", &key("p384.pub")], &uri)
        .expect(255)
        .says("no valid signatures found");
    let name = format!("{}/lab/one@{named}", peer.host());
    for signer in ["p256.pub", "rsa2048.pub"] {
        let Some(mut cosign) = peer.cosign() else {
            return;
        };
        cosign.args([
            "verify",
            "--insecure-ignore-tlog",
            "--key",
            &key(signer),
            &name,
        ]);
        run(&mut cosign).expect(0);
    }
    let mut cosign = peer.cosign().unwrap();
    cosign.env("COSIGN_PASSWORD", "secret");
    cosign.args([
        "sign",
        "-y",
        "--use-signing-config=false",
        "--tlog-upload=false",
    ]);
    cosign.args([
        "--new-bundle-format=false",
        "--key",
        &key("p384.key"),
        &name,
    ]);
    run(&mut cosign).expect(0);
    for signer in ["p256.pub", "rsa2048.pub", "p384.pub"] {
        verify(home, &["--key", &key(signer)], &uri).expect(0);
    }
}

#[test]
fn signers_at_the_same_time_lose_nothing() {
    let registry = Registry::new();
    let home = Home::new();
    fill(&home, &registry.host());
    let uri = format!("docker://{}/lab/one:1", registry.host());
    let signers = ["p256", "rsa2048", "p384", "p521"];
    std::thread::scope(|scope| {
        for signer in signers {
            let (home, uri) = (&home, &uri);
            scope.spawn(move || sign(home, &format!("{signer}.key"), uri).expect(0));
        }
    });
    for signer in signers {
        verify(&home, &["--key", &key(&format!("{signer}.pub"))], &uri).expect(0);
    }
}

#[test]
fn what_was_changed_in_the_registry_is_refused() {
    for change in ["payload", "signature", "manifest", "layer", "moved"] {
        let registry = Registry::new();
        let home = Home::new();
        let named = fill(&home, &registry.host());
        let uri = format!("docker://{}/lab/one:1", registry.host());
        sign(&home, "p256.key", &uri).expect(0);
        let args = ["--key", &key("p256.pub")];
        verify(&home, &args, &uri).expect(0);
        let tag = format!("{}.sig", named.replace(':', "-"));
        {
            let mut store = registry.store.lock().unwrap();
            let signatures = store.manifests[&tag].1.clone();
            let mut parsed: Value = serde_json::from_slice(&signatures).unwrap();
            let payload = parsed["layers"][0]["digest"].as_str().unwrap().to_owned();
            let image: Value = serde_json::from_slice(&store.manifests[&named].1).unwrap();
            let layer = image["layers"][0]["digest"].as_str().unwrap().to_owned();
            match change {
                "payload" => *store.blobs.get_mut(&payload).unwrap().last_mut().unwrap() ^= 1,
                "signature" => {
                    let name = "dev.cosignproject.cosign/signature";
                    let text = parsed["layers"][0]["annotations"][name].as_str().unwrap();
                    parsed["layers"][0]["annotations"][name] = json!(text.replace('M', "N"));
                    let bytes = parsed.to_string().into_bytes();
                    store.put_manifest(&tag, MANIFEST, &bytes);
                }
                "manifest" => {
                    // Another image under the tag: its signatures are not these.
                    let mut other = image.clone();
                    other["annotations"] = json!({"a": "b"});
                    store.put_manifest("1", MANIFEST, other.to_string().as_bytes());
                }
                "layer" => {
                    store.blobs.remove(&layer);
                }
                _ => {
                    // Signatures of one image under the name of another.
                    let mut other = image.clone();
                    other["annotations"] = json!({"a": "b"});
                    let bytes = other.to_string().into_bytes();
                    store.put_manifest("1", MANIFEST, &bytes);
                    let tag = format!("{}.sig", digest(&bytes).replace(':', "-"));
                    store.put_manifest(&tag, MANIFEST, &signatures);
                }
            }
        }
        verify(&home, &args, &uri).expect(255);
    }
}

#[test]
fn flags_that_mean_files_are_refused() {
    let home = Home::new();
    let uri = "docker://127.0.0.1:1/lab/one:1";
    let (public, secret) = (key("p256.pub"), key("p256.key"));
    home.write("policy.toml", b"version = 1\n");
    for (args, told) in [
        (vec!["verify", "--key", &public], "has no signatures of SIF"),
        (vec!["sign", "--key", &secret], "has no signatures of SIF"),
        (
            vec!["verify", "--cosign", "--key", &public, "--strict"],
            "--strict not supported",
        ),
        (
            vec!["verify", "--cosign", "--policy", "policy.toml"],
            "--policy not supported",
        ),
        (
            vec!["sign", "--cosign", "--key", &secret, "--recursive"],
            "--recursive not supported",
        ),
    ] {
        let mut command = home.sigsif(args);
        run(command.arg(uri)).expect(255).says(told);
    }
}
