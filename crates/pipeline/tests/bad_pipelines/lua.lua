local ci = require("quire.ci")
ci.job("a", {"quire/psuh"}, {
  retry = 1, tiemout = "1m"}, function()
end)
