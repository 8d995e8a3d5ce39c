;; What quire runs after each push. `quire ci check` checks this file, `quire ci run`
;; runs it here, on the files as they are now.
(local ci (require :quire.ci))

;; The image that every command runs in.
(ci.image "node:24-slim")

;; The commands of a job stop at the first one that fails.
(ci.job :test [:quire/push]
  (fn [{: sh}]
    (sh "if [ -f package-lock.json ]; then npm ci; else npm install; fi")
    (sh "npm run lint --if-present")
    (sh "npm run build --if-present")
    (sh "npm test --if-present")))

;; A job after it, on one branch only, with a secret of quire's configuration:
;;
;; (ci.job :publish [:test]
;;   (fn [{: sh : jobs : secret}]
;;     (let [push (jobs :quire/push)]
;;       (when (= push.branch "main")
;;         (sh "npm publish" {:env {:NPM_TOKEN (secret :npm-token)}})))))
