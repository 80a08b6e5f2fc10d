//! Which tokens open, and which do not.

use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::permission::Permission;
use super::*;

/// A key of RSA for these tests alone, since `ring` makes none.
const RSA: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDmKdyG3C/q6ekAzCaOADkovpxLRQSSofjbo/96hkUy/Sn1\
    LNDwa78/SOJRTCFWNU9dIDGITF8oh6URE0r28D7vUOqQoMYiciLMEvtCMN+NKPrU6xFv1XxCstkHJMlgjiyQpsf7eh7ufewF\
    eDEhurAfEn02hBSwwdPpjfKF+N1mJ45ONJ0Hrri7qK2iVm5M8l1VV3CYSOC3ryXN2w/6+n9/7hQmWASyv1Hky97d8JMYQBqp\
    EFqhEVEggRHaFbNZpHltscXuflh/xR6WFHuMTiyCntpLmaQFM+FieoBmlEB3aKxG+qrQ0dKdJ6J7ERRLQDB0alvLo+qIttHu\
    hoX0jumvAgMBAAECggEAXToQhpmSWSskwztt1G+3t065vO04RHKR+9lKJqVTSytrPtFH0lI6VVZewUI+cI5IVravCX+xvZdv\
    32I6p5o5S7MxR6Kvjo0/lfyMREvKiQFT1EFgvzUwT03lBXU7kj4URAUiFLTq6XwcyTxdXkWhh/xztky6mrvv63ahCO38M59G\
    MVhhRkLUI0iaUWbM1rGzUp0ssIn3IM5ONt57Uq3T+zmp4F9CHFhmXPfFks1uoXkzdNBoeoPznLI46MikluA7+YcFeClMY8fw\
    Ax7WF6zcL/7eiXFRBwaij7hnFrP+NtNlm+vR4kEJ+XpU9mTEnw14XHmPyiK4j8pzD8+0AlEq3QKBgQD+miIwXwDZ90u4rRjS\
    7DvFwH0pigWeeMPMLx9jrizQqzfuf9+z9aOnnYHc3GljYtZP0t+L63giedJCED1H7H6z5SMy+ikYC18qz4ccTij8h4kj7oCz\
    1oq3abxnlk7FhGgG5V54aRQb9bHbkEAWqV7JrW40+R3ihDFy08X36HyAlQKBgQDnbWCTqXbTAVzefOJ4dSNzjc7QHc6cP7mo\
    /KvxLyveJJl5mqyeafHKKErlCQQ1oEQXKthsgdEJunMP98/pAguEi8hnOkM437YlvVp+eCYCK1KZKftU/F3g7kZIsbCoW+DD\
    oYGGIxF0EXd/v56WUeEZOOOMNy+GPGC8bhdsXa0cMwKBgQCqk5G8XqovXmO5Ax/SkLsrLl+s6PAC0F49+oRJQHR+CXibrciu\
    xTA0KG7NDk79a0ayjFGBaO1AC+Y2pLKp8WSiGi6PBNNrbJMCF7Ap4qPLLPNQw4Yu9tpRL+IudKGp65/Wnu3ANoZmhSH4PJjz\
    ld4PuMZRb2X6UR7gE8pa4cQoUQKBgF29jisBr6HUoXt1dn54ZD3AKQ9fo3rizR9ICZWOF+TJSmlZX6ZjH49VNtEDD/Nw0WPY\
    9QUuqC+amFTVeh/VtjigLjKyBNyasTskMe2cWTjzt2dW+/j2qEgd+9YiM35eiPJ1DvP4bG9pS9AxG9mjnNwMkQ8Qo21qM3zf\
    0xkP8LjFAoGAHzApxIbsf3hX+U7rrdHcT+FDPVR6FdOR+K7Yo/s9i4fCJ3LFyxmeCPukzyxWRdbxWp4MKxntKJOtDxKAMfkX\
    rNM8Gl4XHJ8X0O/CbyRMfeSzyePq/FUh/LP8o8FHYZeKqw80bhUokF9jvzXWIGNfdWTPbcVSVUAmWeJx/2Axf3k=";
const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const NOW: i64 = 1_800_000_000;

/// An issuer with a key of each kind.
struct Issuer {
    dir: TempDir,
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let issuer = Self {
            dir: tempfile::tempdir().unwrap(),
            rsa: RsaKeyPair::from_pkcs8(&STANDARD.decode(RSA).unwrap()).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(algorithm, p256.as_ref(), &random).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        };
        fs::write(issuer.file("secret"), [SECRET, b"\n"].concat()).unwrap();
        issuer.write_keys(&json!({ "keys": [issuer.jwk("r"), issuer.jwk("p"), issuer.jwk("e"),
            { "kty": "EC", "crv": "P-521", "kid": "other", "x": "AA", "y": "AA" },
            { "kty": "RSA", "use": "enc", "kid": "enc", "n": "AA", "e": "AQAB" }] }));
        issuer
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_keys(&self, jwks: &Value) {
        fs::write(self.file("jwks"), jwks.to_string()).unwrap();
    }

    fn jwk(&self, id: &str) -> Value {
        match id {
            "r" => {
                let modulus = modulus(&self.rsa);
                json!({ "kty": "RSA", "kid": id, "use": "sig", "n": base64url(modulus), "e": "AQAB" })
            }
            "p" => {
                let (x, y) = self.p256.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": base64url(x), "y": base64url(y) })
            }
            _ => {
                let x = base64url(self.ed25519.public_key());
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x })
            }
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            issuer: "https://id.example".to_owned(),
            audience: "kapelle".to_owned(),
            secret_file: Some(self.file("secret")),
            jwks_file: Some(self.file("jwks")),
        }
    }

    fn tokens(&self) -> Tokens {
        Tokens::open(self.settings()).unwrap()
    }

    /// A token with that head and those claims, signed as `by` says.
    fn token(&self, head: &Value, claims: &Value, by: &str) -> String {
        let message = format!("{}.{}", base64url(head.to_string()), base64url(claims.to_string()));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let signed = match by {
            "r" => {
                let mut signed = vec![0; self.rsa.public().modulus_len()];
                let padding = &signature::RSA_PKCS1_SHA256;
                self.rsa.sign(padding, &random, bytes, &mut signed).unwrap();
                signed
            }
            "p" => self.p256.sign(&random, bytes).unwrap().as_ref().to_vec(),
            "e" => self.ed25519.sign(bytes).as_ref().to_vec(),
            "" => Vec::new(),
            secret => by_secret(secret.as_bytes(), bytes),
        };
        format!("{message}.{}", base64url(signed))
    }

    /// A good one, signed by one of the keys.
    fn good(&self, by: &str, claims: &Value) -> String {
        let head = match by {
            "r" => json!({ "alg": "RS256", "kid": "r", "typ": "JWT" }),
            "p" => json!({ "alg": "ES256", "kid": "p" }),
            "e" => json!({ "alg": "EdDSA", "kid": "e" }),
            _ => return self.token(&json!({ "alg": "HS256" }), claims, secret()),
        };
        self.token(&head, claims, by)
    }
}

fn modulus(key: &RsaKeyPair) -> Vec<u8> {
    RsaPublicKeyComponents::<Vec<u8>>::from(key.public()).n
}

fn secret() -> &'static str {
    std::str::from_utf8(SECRET).unwrap()
}

fn by_secret(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["others", "kapelle"], "sub": "u-7", "name": "Ada",
        "tenant": "acme", "roles": ["approver", "chief of nothing"], "exp": NOW + 600, "nbf": NOW - 5,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn opens(tokens: &Tokens, token: &str) -> bool {
    tokens.caller(token, Timestamp(NOW * 1_000_000)).is_some()
}

#[tokio::test]
async fn a_token_of_each_kind_says_who_it_is_and_what_they_may() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    for by in ["r", "p", "e", "secret"] {
        let token = issuer.good(by, &claims());
        // Once verified, once remembered.
        for _ in 0..2 {
            let caller = tokens.caller(&token, Timestamp(NOW * 1_000_000)).unwrap();
            assert_eq!(&*caller.name, "token acme/u-7", "{by}");
            assert_eq!((&*caller.person, caller.tenant.as_str()), ("Ada", "acme"));
            assert!(caller.may.has(Permission::RunApprove) && !caller.is_owner);
            assert!(!caller.may.has(Permission::TaskSubmit));
        }
        assert!(tokens.caller(&token, Timestamp((NOW + 631) * 1_000_000)).is_none(), "{by}");
    }
    assert!(opens(&tokens, &issuer.good("r", &with("roles", json!("viewer worker")))));
    assert!(opens(&tokens, &issuer.good("r", &with("aud", json!("kapelle")))));
}

#[tokio::test]
async fn a_token_that_is_not_signed_opens_nothing() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "RS256"] {
        for kid in [Value::Null, json!("r")] {
            let head = json!({ "alg": alg, "kid": kid });
            assert!(!opens(&tokens, &issuer.token(&head, &claims(), "")), "{head}");
        }
    }
    let good = issuer.good("e", &claims());
    let (message, signed) = good.rsplit_once('.').unwrap();
    for odd in ["", ".", "..", "...", message, &good[1..], &format!("{good}."), &format!("{good}A")]
    {
        assert!(!opens(&tokens, odd), "{odd}");
    }
    let head = message.split_once('.').unwrap().0;
    let more = base64url(with("roles", json!(["admin"])).to_string());
    assert!(!opens(&tokens, &format!("{head}.{more}.{signed}")));
    assert!(!opens(&tokens, &format!("{}.{}", "A".repeat(TOKEN_MAX), good)));
}

#[tokio::test]
async fn a_key_of_one_kind_verifies_nothing_of_another() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    // What is public is no secret: neither the numbers of a key nor its file.
    let modulus = modulus(&issuer.rsa);
    let der = issuer.rsa.public().as_ref().to_vec();
    let file = fs::read(issuer.file("jwks")).unwrap();
    for public in [modulus, der, file, issuer.p256.public_key().as_ref().to_vec(), Vec::new()] {
        for kid in [Value::Null, json!("r"), json!("p"), json!("e")] {
            let head = base64url(json!({ "alg": "HS256", "kid": kid }).to_string());
            let message = format!("{head}.{}", base64url(claims().to_string()));
            let signed = base64url(by_secret(&public, message.as_bytes()));
            assert!(!opens(&tokens, &format!("{message}.{signed}")), "{kid}");
        }
    }
    for (alg, kid, by) in [
        ("ES256", "r", "p"),
        ("RS256", "p", "r"),
        ("EdDSA", "p", "e"),
        ("ES256", "e", "p"),
        ("HS256", "r", "r"),
        ("RS384", "r", "r"),
        ("PS256", "r", "r"),
        ("ES384", "p", "p"),
    ] {
        let head = json!({ "alg": alg, "kid": kid });
        assert!(!opens(&tokens, &issuer.token(&head, &claims(), by)), "{head}");
    }
}

#[tokio::test]
async fn a_token_for_others_or_another_time_opens_nothing() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    assert!(opens(&tokens, &issuer.good("p", &claims())));
    for odd in [
        with("iss", json!("https://id.example/")),
        with("iss", json!(["https://id.example"])),
        with("aud", json!("Kapelle")),
        with("aud", json!([])),
        with("aud", json!("kapelle others")),
        with("exp", json!(NOW - 31)),
        with("exp", json!("soon")),
        with("exp", json!(-1)),
        with("nbf", json!(NOW + 31)),
        with("nbf", json!("x")),
        with("tenant", json!("")),
        with("tenant", json!("../acme")),
        with("tenant", json!(7)),
        with("sub", json!("")),
        with("sub", json!("x".repeat(201))),
        with("roles", json!({})),
        without("iss"),
        without("aud"),
        without("exp"),
        without("tenant"),
        without("sub"),
        without("roles"),
    ] {
        assert!(!opens(&tokens, &issuer.good("p", &odd)), "{odd}");
    }
}

#[tokio::test]
async fn a_token_of_an_unknown_key_opens_nothing() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    for head in [
        json!({ "alg": "RS256", "kid": "x" }),
        json!({ "alg": "RS256", "kid": "" }),
        json!({ "alg": "HS256", "kid": "x" }),
        json!({ "alg": "RS256", "kid": 7 }),
        json!({ "alg": "RS256", "kid": "r", "crit": ["exp"] }),
        json!({ "kid": "r" }),
        json!([]),
    ] {
        let by = if head["alg"] == "HS256" { secret() } else { "r" };
        assert!(!opens(&tokens, &issuer.token(&head, &claims(), by)), "{head}");
    }
    // Somebody else's key under the name of ours.
    let strange = Issuer::new();
    assert!(!opens(&tokens, &strange.good("e", &claims())));
    // Without a name it is the one of its kind, if there is one.
    let unnamed = issuer.token(&json!({ "alg": "RS256" }), &claims(), "r");
    assert!(opens(&tokens, &unnamed));
    let mut again = issuer.jwk("r");
    again["kid"] = json!("r2");
    issuer.write_keys(&json!({ "keys": [issuer.jwk("r"), again] }));
    assert!(!opens(&issuer.tokens(), &unnamed));
}

#[tokio::test(start_paused = true)]
async fn a_file_of_keys_that_changed_is_read_again() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    let (old, new) = (issuer.good("r", &claims()), issuer.good("e", &claims()));
    issuer.write_keys(&json!({ "keys": [issuer.jwk("e")] }));
    assert!(opens(&tokens, &old));
    tokio::time::advance(LOOK).await;
    assert!(!opens(&tokens, &old) && opens(&tokens, &new));
    // What is no set of keys takes none away.
    fs::write(issuer.file("jwks"), "{").unwrap();
    tokio::time::advance(LOOK).await;
    assert!(opens(&tokens, &new) && !opens(&tokens, &old));
}

#[tokio::test]
async fn keys_that_are_none_are_told_at_the_start() {
    let issuer = Issuer::new();
    let told = |keys: &Value| {
        issuer.write_keys(keys);
        Tokens::open(issuer.settings()).err().unwrap()
    };
    let one = |key: Value| json!({ "keys": [key] });
    let short = json!({ "kty": "RSA", "n": base64url([9; 128]), "e": "AQAB" });
    for (keys, what) in [
        (json!([]), "it is no set of keys"),
        (one(json!({ "kty": "EC", "crv": "P-521" })), "it has no key for RS256, ES256 or EdDSA"),
        (
            one(json!({ "kty": "oct", "k": "AA" })),
            "key 1: it is a secret: give that as `jwt.secret_file`",
        ),
        (one(short), "key 1: `n` has less than 2048 bits"),
        (
            one(json!({ "kty": "RSA", "n": "=", "e": "AQAB" })),
            "key 1: `n` is not there, or no base64url",
        ),
        (one(json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" })), "key 1: `x` has 32 bytes"),
        (
            one(json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" })),
            "`x` and `y` have 32 bytes each",
        ),
        (
            json!({ "keys": [issuer.jwk("e"), issuer.jwk("e")] }),
            "key 2: its `kid` is that of another one",
        ),
    ] {
        let told = told(&keys);
        assert!(told.starts_with("`jwt.jwks_file`: ") && told.contains(what), "{told}");
    }
    fs::write(issuer.file("secret"), "short\n").unwrap();
    let told = Tokens::open(issuer.settings()).err().unwrap();
    assert!(told.contains("`jwt.secret_file`") && told.contains("less than 32 bytes"), "{told}");
    fs::remove_file(issuer.file("secret")).unwrap();
    let told = Tokens::open(issuer.settings()).err().unwrap();
    assert!(told.contains("`jwt.secret_file`"), "{told}");
}
