//! The cryptographic functions of the handshake, for the library that carries it out. Its own set
//! is of older versions of the same libraries, and asks the system for random bytes.

use alloc::boxed::Box;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Tag};
use sha2::{Digest, Sha256};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

const TAG: usize = 16;

/// The functions, and random bytes for one handshake.
pub(crate) struct Primitives {
    random: Zeroizing<[u8; 32]>,
}

impl Primitives {
    pub(crate) fn new(random: [u8; 32]) -> Self {
        Self {
            random: Zeroizing::new(random),
        }
    }
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneKey(Some(self.random.clone()))))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::<X25519Pair>::default())
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::<Sha256Hash>::default())
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::<ChaChaPoly>::default())
    }
}

/// Random bytes for the one key that a handshake makes.
struct OneKey(Option<Zeroizing<[u8; 32]>>);

impl Random for OneKey {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        match self.0.take() {
            Some(random) if random.len() == bytes.len() => {
                bytes.copy_from_slice(random.as_slice());
                Ok(())
            }
            _ => Err(Error::Rng),
        }
    }
}

#[derive(Default)]
struct X25519Pair {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519Pair {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        if let Ok(private) = private.try_into() {
            self.private = Zeroizing::new(private);
            self.public = x25519(private, X25519_BASEPOINT_BYTES);
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut private = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(private.as_mut_slice())?;
        self.set(private.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.private.as_slice()
    }

    /// Both slices can be longer than a key.
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk().ok_or(Error::Dh)?;
        let out = out.first_chunk_mut().ok_or(Error::Dh)?;
        *out = x25519(*self.private, *public);
        Ok(())
    }
}

#[derive(Default)]
struct Sha256Hash(Sha256);

impl Hash for Sha256Hash {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Sha256::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = core::mem::take(&mut self.0).finalize();
        for (to, from) in out.iter_mut().zip(hash) {
            *to = from;
        }
    }
}

#[derive(Default)]
struct ChaChaPoly {
    key: Zeroizing<[u8; 32]>,
}

impl ChaChaPoly {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&(*self.key).into())
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.key = Zeroizing::new(*key);
    }

    /// The library has checked that `out` has room.
    fn encrypt(&self, nonce: u64, authtext: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let length = plain.len() + TAG;
        let Some((sealed, tag)) = out
            .get_mut(..length)
            .and_then(|out| out.split_at_mut_checked(plain.len()))
        else {
            return 0;
        };
        let Ok(buffer) = InOutBuf::new(plain, sealed) else {
            return 0;
        };
        let made =
            self.cipher()
                .encrypt_inout_detached(&nonce_bytes(nonce).into(), authtext, buffer);
        match made {
            Ok(made) => tag.copy_from_slice(&made),
            Err(_) => return 0,
        }
        length
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (sealed, tag) = sealed.split_last_chunk::<TAG>().ok_or(Error::Decrypt)?;
        let plain = out.get_mut(..sealed.len()).ok_or(Error::Decrypt)?;
        let buffer = InOutBuf::new(sealed, plain).map_err(|_| Error::Decrypt)?;
        self.cipher()
            .decrypt_inout_detached(
                &nonce_bytes(nonce).into(),
                authtext,
                buffer,
                &Tag::from(*tag),
            )
            .map_err(|_| Error::Decrypt)?;
        Ok(sealed.len())
    }
}

/// 32 bits of zeros and the number in little-endian order, as Noise defines it for this cipher.
fn nonce_bytes(number: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (to, from) in bytes.iter_mut().skip(4).zip(number.to_le_bytes()) {
        *to = from;
    }
    bytes
}
