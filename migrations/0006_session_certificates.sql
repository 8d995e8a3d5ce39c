-- A link and a session of a certificate end with the certificate, and not only with the authority that signed it.
ALTER TABLE login_links ADD COLUMN certificate TEXT CHECK (certificate IS NULL OR key_fingerprint IS NOT NULL);
ALTER TABLE sessions ADD COLUMN certificate TEXT CHECK (certificate IS NULL OR key_fingerprint IS NOT NULL);
